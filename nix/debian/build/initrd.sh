# $out: an uncompressed initramfs: busybox, the kernel modules that find the
# root disk, /init.
. "$lib"
unpack tree $debs
mkdir -p root/bin root/dev root/proc root/sys root/lower root/upper root/root root/modules
cp "$busybox" root/bin/busybox
cp "$init" root/init
chmod 755 root/init root/bin/busybox

# Order matters: each after what it needs. /init loads them in this order.
for module in virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net overlay virtio-rng virtio_balloon; do
	path="$(find tree/lib/modules -name "$module.ko")"
	[ -n "$path" ] || { echo "cannot find the module $module" >&2; exit 1; }
	cp "$path" root/modules/
done

cd root
find . -exec touch -h -d @1 {} +
find . | sort | cpio -o -H newc -R 0:0 --renumber-inodes --ignore-devno >"$out"
