# kernel.sh FORMAT IMAGE OUT
#
# Writes the kernel in IMAGE to OUT as FORMAT: "vmlinux" (an x86 ELF file, from
# a bzImage or already one) or "Image" (an arm64 one, plain or wrapped for EFI).
set -euo pipefail

format=$1 image=$2 out=$3

fail() {
  echo "kernel: $image: $*" >&2
  exit 1
}

# bytes FILE OFFSET COUNT: as hexadecimal digits
bytes() { od -An -v -tx1 -j "$2" -N "$3" "$1" | tr -d ' \n'; }

# uint FILE OFFSET SIZE: as a little-endian number
uint() { od -An -v -tu"$3" --endian=little -j "$2" -N "$3" "$1" | tr -d ' '; }

# slice FILE OFFSET COUNT (in this order, so that neither has to stop early)
slice() { head -c "$(($2 + $3))" "$1" | tail -c "$3"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# unpack PAYLOAD: decompress it to $work/kernel. Behind every kind but gzip the
# kernel's build puts the unpacked size as four bytes, which no decompressor
# expects and which shows that all of it was unpacked.
unpack() {
  local size
  size=$(stat -c %s "$1")
  case $(bytes "$1" 0 4) in
  1f8b*) gzip -dc "$1" > "$work/kernel" ;;
  28b52ffd) slice "$1" 0 $((size - 4)) | zstd -dqc > "$work/kernel" ;;
  fd377a58) slice "$1" 0 $((size - 4)) | xz -dc > "$work/kernel" ;;
  5d0000*) slice "$1" 0 $((size - 4)) | xz --format=lzma -dc > "$work/kernel" ;;
  02214c18) slice "$1" 0 $((size - 4)) | lz4 -dqc - > "$work/kernel" ;;
  *) fail "unknown compression $(bytes "$1" 0 4)" ;;
  esac
  [ "$(uint "$1" $((size - 4)) 4)" = "$(stat -c %s "$work/kernel")" ] || fail "it does not unpack to the size it states"
}

# What the image is, by its head.
if [ "$(bytes "$image" 514 4)" = 48647253 ]; then # "HdrS": a bzImage
  sectors=$(uint "$image" 497 1)
  [ "$sectors" -gt 0 ] || sectors=4
  slice "$image" $(((sectors + 1) * 512 + $(uint "$image" 584 4))) "$(uint "$image" 588 4)" > "$work/payload"
  unpack "$work/payload"
elif [ "$(bytes "$image" 4 4)" = 7a696d67 ]; then # "zimg": wrapped for EFI
  slice "$image" "$(uint "$image" 8 4)" "$(uint "$image" 12 4)" > "$work/payload"
  unpack "$work/payload"
else
  cp "$image" "$work/kernel"
fi

case $format in
vmlinux)
  [ "$(bytes "$work/kernel" 0 4)" = 7f454c46 ] || fail "no ELF file"
  [ "$(uint "$work/kernel" 18 2)" = 62 ] || fail "no ELF file for x86-64"
  ;;
Image)
  [ "$(bytes "$work/kernel" 56 4)" = 41524d64 ] || fail "no arm64 Image"
  ;;
*) fail "unknown format $format" ;;
esac
install -m 0444 "$work/kernel" "$out"
