# Sourced by every build script: busybox's applets as commands, and how a .deb
# is unpacked. There is no /bin/sh and no PATH before this.
mkdir() { "$busybox" mkdir "$@"; }
mkdir -p "$TMPDIR/applets"
"$busybox" --install -s "$TMPDIR/applets"
unset -f mkdir
set -o pipefail
export PATH="$TMPDIR/applets" LC_ALL=C
umask 022

# unpack FOLDER DEB…: unpack packages into one tree, as files of nobody in
# particular: no owners, no setuid bits.
unpack() {
	local into="$1" deb member
	shift
	mkdir -p "$into"
	for deb; do
		member="$(ar t "$deb" | grep '^data\.tar')"
		case "$member" in
		data.tar) ar p "$deb" "$member" ;;
		data.tar.gz) ar p "$deb" "$member" | gunzip ;;
		data.tar.xz) ar p "$deb" "$member" | unxz ;;
		*) echo "cannot unpack $deb: it holds ${member:-no data}" >&2; return 1 ;;
		esac | tar -x -o --no-same-permissions -C "$into" -f -
	done
}

# tool NAME ARGUMENT…: run a program of $tools.
tool() {
	local name="$1" root="$tools/usr"
	shift
	"$root"/lib64/ld-linux-*.so.* --library-path "$(echo "$root"/lib/*-linux-gnu)" "$root/bin/$name" "$@"
}
