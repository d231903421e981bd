# $out: the kernel as an uncompressed ELF file, as Firecracker wants it. It is
# the payload of Debian's vmlinuz; the boot protocol's header says where.
. "$lib"
unpack tree $debs
bzimage="$(echo tree/boot/vmlinuz-*)"

# number OFFSET SIZE: an unsigned little-endian number in the header.
number() { od -A n -t "u$2" -j "$1" -N "$2" "$bzimage" | tr -d ' '; }

[ "$(number 514 4)" = 1400005704 ] || { echo "cannot read $bzimage: no boot protocol header" >&2; exit 1; }
setup=$((($(number 497 1) + 1) * 512))
start=$((setup + $(number 584 4)))
size=$(number 588 4)
tail -c "+$((start + 1))" "$bzimage" >rest
head -c "$size" rest >payload

case "$(od -A n -t x1 -N 4 payload | tr -d ' ')" in
# The kernel's build appends the unpacked size, which is no part of the stream.
02214c18) head -c "$((size - 4))" payload | tool lz4 -dc - >vmlinux ;;
28b52ffd) head -c "$((size - 4))" payload | tool zstd -dcq >vmlinux ;;
fd377a58) unxz -c <payload >vmlinux ;;
7f454c46) mv payload vmlinux ;;
*) echo "cannot unpack $bzimage: unknown compression" >&2; exit 1 ;;
esac
[ "$(od -A n -t x1 -N 4 vmlinux | tr -d ' ')" = 7f454c46 ] ||
	{ echo "cannot unpack $bzimage: its payload is no ELF file" >&2; exit 1; }
cp vmlinux "$out"
