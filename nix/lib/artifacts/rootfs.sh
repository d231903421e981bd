# rootfs.sh PATHS EXCLUDE FORBIDDEN IMAGE
#
# Makes IMAGE, an ext4 file system that holds the store paths listed in the file
# PATHS, without those whose names are in EXCLUDE. Fails if a name in FORBIDDEN
# is among them.
#
# The same paths give the same bits: nothing of the building host may leak in,
# neither its file system, its clock, its users nor its hard links.
set -euo pipefail

paths=$1 exclude=$2 forbidden=$3 image=$4

fail() {
  echo "rootfs: $*" >&2
  exit 1
}

# Older ones write the time of the build into the image (1.47.0 even with
# SOURCE_DATE_EPOCH set).
version=$(mke2fs -V 2>&1 | sed -n 's/^mke2fs \([0-9.]*\).*/\1/p')
newest=$(printf '%s\n' "$version" 1.47.1 | sort -V | tail -n 1)
[ "$newest" = "$version" ] || fail "mke2fs $version can't make the same image twice, 1.47.1 and later can"

work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"

while read -r path; do
  name=${path##*/}
  case " $forbidden " in *" $name "*) fail "$name must not be in an image" ;; esac
  case " $exclude " in *" $name "*) continue ;; esac
  # Without links: a store that shares equal files between paths has hard links
  # where another has none.
  cp -R --no-dereference --preserve=mode,timestamps "$path" "$root/"
done < "$paths"

# The store's own times and modes, also for the folder that stands for it.
find "$root" -exec touch -h -d @1 {} +
chmod 0755 "$root"

# The size follows from the content alone; folders on this host may be of any
# size. Per file its blocks, per folder the entries at the most that a name
# takes, per inode its place in the table, and 2 % and 8 MiB for the rest.
block=4096
read -r blocks inodes < <(find "$root" -printf '%y %s\n' | awk -v block=$block '
  $1 == "f" { blocks += int(($2 + block - 1) / block) }
  $1 == "l" && $2 >= 60 { blocks += 1 }
  $1 == "d" { blocks += 1 }
  { inodes += 1; entries += 264 }
  END { print blocks + int(entries / block) + 1, inodes + 64 }')
size=$((blocks + inodes * 256 / block + (blocks / 50) + 2048))

# Everything that mke2fs would draw at random or read from the host is given.
# UUID and hash seed need not differ between images: they are never mounted
# side by side.
export SOURCE_DATE_EPOCH=1 MKE2FS_CONFIG=/dev/null
uuid=6d766d00-0000-4000-8000-000000000001
fakeroot mke2fs -q -b $block -I 256 -m 0 -N "$inodes" -L rootfs -U $uuid \
  -O none,extent,flex_bg,64bit,dir_index,ext_attr,filetype,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum \
  -E "hash_seed=$uuid,root_owner=0:0,no_copy_xattrs,nodiscard,lazy_itable_init=0" \
  -d "$root" "$image" "$size"
e2fsck -fn "$image"
chmod 0444 "$image"
