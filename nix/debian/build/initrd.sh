# $out: an uncompressed initramfs: busybox, the kernel modules that find the
# root disk, /init.
. "$lib"
unpack tree $debs
mkdir -p root/bin root/dev root/proc root/sys root/lower root/upper root/root root/modules
cp "$busybox" root/bin/busybox
cp "$init" root/init
chmod 755 root/init root/bin/busybox

# add MODULE: copy it, unless it is part of the kernel anyway.
add() {
	path="$(find tree/ -path '*/lib/modules/*' -name "$1.ko*")"
	case "$path" in
	*.ko) cp "$path" "root/modules/$1.ko" ;;
	*.ko.xz) unxz -c "$path" >"root/modules/$1.ko" ;;
	*)
		grep -q "/$1\.ko$" "$(find tree/ -name modules.builtin)" ||
			{ echo "cannot find the module $1" >&2; exit 1; }
		return 1
		;;
	esac
}

# What every guest loads, each after what it needs, and what some do.
for module in virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net overlay; do
	if add "$module"; then echo "$module"; fi
done >root/modules/order
for module in virtio-rng virtio_balloon; do
	add "$module" || true
done

cd root
find . -exec touch -h -d @1 {} +
find . | sort | cpio -o -H newc -R 0:0 --renumber-inodes --ignore-devno >"$out"
