# $out: the programs that the other builds need, with their libraries, in one
# /usr.
. "$lib"
unpack tree $debs
mkdir -p "$out/usr/bin" "$out/usr/lib" "$out/usr/lib64"
for folder in tree/bin tree/sbin tree/usr/bin tree/usr/sbin; do
	[ ! -d "$folder" ] || cp -a "$folder/." "$out/usr/bin/"
done
for folder in lib lib64; do
	for prefix in tree tree/usr; do
		[ ! -d "$prefix/$folder" ] || cp -a "$prefix/$folder/." "$out/usr/$folder/"
	done
done
cp tree/etc/mke2fs.conf "$out/mke2fs.conf"

# The dynamic loader is a link into /lib; make it one into this tree.
for link in "$out"/usr/lib64/ld-linux-*; do
	target="$(basename "$(readlink "$link")")"
	ln -sf "../lib/$(basename "$(dirname "$(readlink "$link")")")/$target" "$link"
done
