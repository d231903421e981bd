# The kernel as Firecracker loads it: on x86 the uncompressed ELF file inside
# the bzImage, on aarch64 the plain Image.
#
# The kernel's dev output has an ELF file as well, with half a gigabyte of debug
# data and headers around it; the one inside the bzImage is the same code,
# already stripped.
{
  runCommand,
  gzip,
  xz,
  zstd,
  lz4,
  image,
  format,
}:
runCommand "tenant-kernel-${format}" {nativeBuildInputs = [gzip xz zstd lz4];} ''
  bash ${./kernel.sh} ${format} ${image} $out
''
