# $out: the guest's root filesystem, an ext4 image that depends on nothing but
# the packages and the files in $guest.
. "$lib"

unpack tree $debs

# One /usr, as an installed Debian has it.
mkdir -p tree/usr/bin tree/usr/sbin tree/usr/lib tree/usr/lib64
for folder in bin sbin lib lib64; do
	[ ! -L "tree/$folder" ] || continue
	if [ -d "tree/$folder" ]; then
		cp -a "tree/$folder/." "tree/usr/$folder/"
		rm -rf "tree/$folder"
	fi
	ln -s "usr/$folder" "tree/$folder"
done

# What only serves people at a Debian, its package manager or other inits.
(
	cd tree/usr/share
	rm -rf apport applications bash-completion binfmts bug doc doc-base info initramfs-tools \
		lintian locale man menu openssh pixmaps runit zsh
)
(
	cd tree/etc
	rm -rf cron.* default dpkg init.d logrotate.d runit skel ssh sv ufw update-motd.d
)
rm -rf tree/usr/lib/systemd tree/usr/lib/*-linux-gnu/gconv tree/var

mkdir -p tree/dev tree/proc tree/sys tree/run tree/tmp tree/data tree/root tree/mnt tree/home \
	tree/etc tree/var/log tree/var/tmp tree/var/cache tree/var/lib
ln -s ../run tree/var/run
: >tree/var/log/lastlog
: >tree/var/log/wtmp
cp -a "$guest/." tree/
chmod -R u+w,go-w,ug-s tree
chmod 755 tree/usr/lib/mvm-guest/*
chmod 1777 tree/tmp tree/var/tmp
chmod 700 tree/root
chmod 600 tree/etc/shadow

if [ -e tree/usr/bin/bash ]; then
	sed -i '/^root:/s,/bin/sh$,/bin/bash,' tree/etc/passwd
fi

# Busybox serves every command that no package brings.
busybox --list-full >applets.list
while read -r applet; do
	name="${applet##*/}"
	if [ "$name" = busybox ] || [ -e "tree/usr/bin/$name" ] || [ -e "tree/usr/sbin/$name" ] ||
		[ -L "tree/usr/bin/$name" ] || [ -L "tree/usr/sbin/$name" ]; then
		continue
	fi
	case "$applet" in
	*sbin/*) ln -s ../bin/busybox "tree/usr/sbin/$name" ;;
	*bin/*) ln -s busybox "tree/usr/bin/$name" ;;
	esac
done <applets.list
ln -sf ../bin/busybox tree/usr/sbin/init

# What ca-certificates would do when configured.
if [ -d tree/usr/share/ca-certificates ]; then
	mkdir -p tree/etc/ssl/certs tree/usr/lib/ssl
	find tree/usr/share/ca-certificates -name '*.crt' | sort | xargs cat >tree/etc/ssl/certs/ca-certificates.crt
	ln -sf /etc/ssl/certs/ca-certificates.crt tree/usr/lib/ssl/cert.pem
fi

# The image. mke2fs can copy a tree, but takes over times and owners that
# differ from build to build; debugfs writes each file as it is told, as
# root's, in sorted order, at the second 1 of 1970.
#
# Its size in blocks: the files, a little for folders and inodes, 2 % more.
blocks="$(find tree -type f -exec stat -c %s {} + | awk '{ n += int(($1 + 4095) / 4096) } END { print n }')"
entries="$(find tree | wc -l)"
inodes=$((entries + 64))
blocks=$((blocks + entries / 4 + inodes / 16))
blocks=$(((blocks + blocks / 50 + 512) / 256 * 256))

quote() {
	case "$1" in
	*\"* | *'
'*) echo "cannot put '$1' into an image" >&2; return 1 ;;
	esac
	printf '"%s"' "$1"
}

{
	echo 'set_current_time 19700101000001'
	folder=
	(cd tree && find . -mindepth 1 | sort) | while read -r path; do
		file="$PWD/tree/${path#./}"
		name="$(quote "${path##*/}")"
		# Only cd finds its way by a path: the others work in that folder.
		if [ "${path%/*}" != "$folder" ]; then
			folder="${path%/*}"
			echo "cd $(quote "${folder#.}/")"
		fi
		if [ -L "$file" ]; then
			echo "symlink $name $(quote "$(readlink "$file")")"
		elif [ -d "$file" ]; then
			echo "mkdir $name"
		elif [ -f "$file" ]; then
			echo "write $(quote "$file") $name"
		else
			echo "cannot put $path into an image: it is no file, folder or link" >&2
			exit 1
		fi
	done
	# mkdir makes them 0755.
	(cd tree && find . -mindepth 1 -type d ! -perm 0755 | sort) | while read -r path; do
		echo "sif $(quote "${path#.}") mode $(printf '04%04o' "0$(stat -c %a "tree/$path")")"
	done
	echo 'ssv mkfs_time 19700101000001'
} >commands

export MKE2FS_CONFIG="$tools/mke2fs.conf" E2FSPROGS_FAKE_TIME=1 SOURCE_DATE_EPOCH=1
tool mke2fs -q -t ext4 -b 4096 -I 256 -N "$inodes" -m 0 -L "$profile" \
	-O ^has_journal,^resize_inode -U 6d766d00-0000-4000-8000-000000000001 \
	-E hash_seed=6d766d00-0000-4000-8000-000000000002,root_owner=0:0,nodiscard,lazy_itable_init=0 \
	image "$blocks"
tool debugfs -w -f commands image >log 2>&1

# debugfs repeats its commands, names the inodes it takes, and goes on after an
# error: whatever else it says is one.
if grep -v -E '^(debugfs[: ].*|Allocated inode: [0-9]+|Setting current time to .*)?$' log >&2; then
	echo "cannot fill the image" >&2
	exit 1
fi
tool e2fsck -fn image
cp image "$out"
