# Tests the shell scripts that make and check artifacts, outside of Nix: with
# kernels and stores that it makes itself, in every form that they come in.
#
# Needs gzip, xz, zstd and lz4; the image needs fakeroot and mke2fs 1.47.1 or
# newer. Says at its end what did not run.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
artifacts=$here/../lib/artifacts
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
failed=0

check() { # WHAT, then the command that must succeed
  local what=$1
  shift
  if "$@" > "$work/log" 2>&1; then
    echo "ok    $what"
  else
    echo "FAIL  $what"
    sed 's/^/      /' "$work/log"
    failed=1
  fi
}
refused() { # WHAT, what it must say, then the command that must fail
  local what=$1 says=$2
  shift 2
  if "$@" > "$work/log" 2>&1; then
    echo "FAIL  $what: not refused"
    failed=1
  elif ! grep -q "$says" "$work/log"; then
    echo "FAIL  $what: does not say '$says'"
    sed 's/^/      /' "$work/log"
    failed=1
  else
    echo "ok    $what"
  fi
}

# Little-endian bytes of a number, four of them.
le32() { printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"; }
at() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
pattern() { awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) print i * 7919 % 1000003 }'; }

pack() { # KIND FILE: compressed as the kernel's build does it
  case $1 in
  gzip) gzip -9nc "$2" && return ;;
  zstd) zstd -q -19 -c "$2" ;;
  xz) xz --check=crc32 -c "$2" ;;
  lzma) xz --format=lzma -c "$2" ;;
  lz4) lz4 -q -l -c "$2" ;;
  esac
  le32 "$(stat -c %s "$2")"
}
bzimage() { # PAYLOAD OUT
  head -c 4096 /dev/zero > "$2"
  printf '\x03' | at "$2" 497 # three sectors behind the first
  printf HdrS | at "$2" 514
  le32 256 | at "$2" 584
  stat -c %s "$1" | { read -r n && le32 "$n"; } | at "$2" 588
  at "$2" $((4 * 512 + 256)) < "$1"
  echo "what follows the payload" >> "$2"
}
zboot() { # PAYLOAD OUT
  head -c 512 /dev/zero > "$2"
  printf 'MZ\0\0zimg' | at "$2" 0
  le32 512 | at "$2" 8
  stat -c %s "$1" | { read -r n && le32 "$n"; } | at "$2" 12
  cat "$1" >> "$2"
  echo "what follows the payload" >> "$2"
}

kernel() { bash "$artifacts/kernel.sh" "$@"; }

{ printf '\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0' && pattern 20000; } > "$work/elf"
{ head -c 56 /dev/zero && printf 'ARM\x64' && pattern 20000; } > "$work/arm"

for kind in gzip zstd xz lzma lz4; do
  pack $kind "$work/elf" > "$work/payload"
  bzimage "$work/payload" "$work/bzImage"
  check "kernel: bzImage, $kind" kernel vmlinux "$work/bzImage" "$work/out.$kind"
  check "kernel: bzImage, $kind, unpacked whole" cmp "$work/elf" "$work/out.$kind"
  pack $kind "$work/arm" > "$work/payload"
  zboot "$work/payload" "$work/vmlinuz.efi"
  check "kernel: EFI, $kind" kernel Image "$work/vmlinuz.efi" "$work/arm.$kind"
  check "kernel: EFI, $kind, unpacked whole" cmp "$work/arm" "$work/arm.$kind"
done
check "kernel: an ELF file as it is" kernel vmlinux "$work/elf" "$work/same"
check "kernel: an Image as it is" kernel Image "$work/arm" "$work/same.arm"

refused "kernel: for the other architecture" "no arm64 Image" kernel Image "$work/bzImage" "$work/x"
refused "kernel: something else" "no ELF file" kernel vmlinux "$work/payload" "$work/x"
cp "$work/elf" "$work/elf32" && printf '\x03' | at "$work/elf32" 18
refused "kernel: an ELF file for another machine" "x86-64" kernel vmlinux "$work/elf32" "$work/x"
{ zstd -q -c "$work/elf" && le32 17; } > "$work/payload"
bzimage "$work/payload" "$work/bzImage"
refused "kernel: cut short" "size it states" kernel vmlinux "$work/bzImage" "$work/x"
echo none > "$work/payload"
bzimage "$work/payload" "$work/bzImage"
refused "kernel: unknown compression" "unknown compression" kernel vmlinux "$work/bzImage" "$work/x"

# An unpacked image with nothing wrong, and one thing wrong at a time.
secrets() { bash "$here/no-secrets.sh" "$work/root"; }
root() {
  rm -rf "$work/root"
  mkdir -p "$work/root"/{etc/ssh,a-etc/etc,bin,python3/lib/python3.13/test}
  : > "$work/root/a-etc/etc/machine-id"
  echo 'root:!*:1::::::' > "$work/root/etc/shadow"
  echo '{"users":[{"name":"root","hashedPassword":null,"password":null}]}' > "$work/root/a-userborn.json"
  echo '-----BEGIN PRIVATE KEY-----' > "$work/root/python3/lib/python3.13/test/keycert.pem"
  echo 'ssh-ed25519 AAAA' > "$work/root/etc/ssh/ssh_host_ed25519_key.pub"
}
root
check "no-secrets: a clean image" secrets
while IFS='|' read -r what file content; do
  root
  mkdir -p "$(dirname "$work/root/$file")"
  printf '%s\n' "$content" > "$work/root/$file"
  refused "no-secrets: $what" "^$what: /$file" secrets
done << 'LIST'
SSH host key|etc/ssh/ssh_host_ed25519_key|x
SSH user key|home/.ssh/authorized_keys|ssh-ed25519 AAAA
SSH user key|home/.ssh/id_ed25519|x
machine id|a-etc/etc/machine-id|00112233445566778899aabbccddeeff
private key|bin/tool|-----BEGIN OPENSSH PRIVATE KEY-----
private key|etc/tls.pem|-----BEGIN PRIVATE KEY-----
password|etc/shadow|root:$6$abc$def:1::::::
password|a-userborn.json|{"users":[{"name":"root","hashedPassword":"$y$j9T$abc"}]}
password|a-userborn.json|{"users":[{"name":"root","initialPassword":"hunter2"}]}
secrets|a-config/secrets.json|{}
LIST

rootfs() { bash "$artifacts/rootfs.sh" "$@"; }
store() { # FOLDER: a store of a few paths
  mkdir -p "$1"/{aaa-tool/bin,bbb-many,ddd-linux-dev,eee-initrd}
  pattern 300000 > "$1/aaa-tool/bin/tool"
  cp "$1/aaa-tool/bin/tool" "$1/aaa-tool/bin/twin"
  ln -s ../../bbb-many/7 "$1/aaa-tool/near"
  ln -s "/nix/store/$(printf 'x%.0s' $(seq 100))" "$1/aaa-tool/far"
  for n in $(seq 500); do echo "$n" > "$1/bbb-many/$n-with-a-name-that-is-rather-long"; done
  echo file > "$1/ccc-file"
  echo dev > "$1/ddd-linux-dev/vmlinux"
  echo initrd > "$1/eee-initrd/initrd"
  chmod -R a-w "$1"
  chmod a+x "$1/aaa-tool/bin/tool"
  printf '%s\n' "$1"/{aaa-tool,bbb-many,ccc-file,eee-initrd} > "$1.paths"
}

if ! type mke2fs fakeroot > /dev/null 2>&1; then
  echo "NOT RUN: the image, which needs mke2fs and fakeroot"
elif ! printf '%s\n' 1.47.1 "$(mke2fs -V 2>&1 | sed -n 's/^mke2fs \([0-9.]*\).*/\1/p')" | sort -VC; then
  store "$work/store"
  refused "rootfs: an old mke2fs" "1.47.1" rootfs "$work/store.paths" "" "" "$work/x.ext4"
  echo "NOT RUN: the image, which needs mke2fs 1.47.1 or newer"
else
  store "$work/store"
  check "rootfs: made" rootfs "$work/store.paths" "eee-initrd" "ddd-linux-dev" "$work/one.ext4"
  # The same again, with everything different that may be: where it lies, the
  # order, hard links, times, the umask, the clock.
  store "$work/other"
  chmod -R u+w "$work/other"
  ln -f "$work/other/aaa-tool/bin/tool" "$work/other/aaa-tool/bin/twin"
  cp "$work/store/aaa-tool/bin/twin" "$work/other/aaa-tool/bin/twin.new" && mv -f "$work/other/aaa-tool/bin/twin.new" "$work/other/aaa-tool/bin/twin"
  ln -f "$work/other/bbb-many/1-with-a-name-that-is-rather-long" "$work/hardlink"
  find "$work/other" -exec touch -h -d 2001-02-03 {} +
  chmod -R a-w "$work/other"
  sleep 1.1 # mke2fs counts in seconds
  check "rootfs: made again" env TMPDIR=/dev/shm bash -c "umask 077; bash '$artifacts/rootfs.sh' '$work/other.paths' eee-initrd ddd-linux-dev '$work/two.ext4'"
  check "rootfs: the same bits" cmp "$work/one.ext4" "$work/two.ext4"

  mkdir "$work/unpacked"
  debugfs -R "rdump / $work/unpacked" "$work/one.ext4" 2> /dev/null
  rmdir "$work/unpacked/lost+found"
  check "rootfs: holds these paths" test "$(ls "$work/unpacked" | tr '\n' ' ')" = "aaa-tool bbb-many ccc-file "
  rm -rf "$work/expected" && mkdir "$work/expected" && cp -R --no-dereference "$work/store"/{aaa-tool,bbb-many,ccc-file} "$work/expected"
  check "rootfs: with this content" diff -r --no-dereference "$work/expected" "$work/unpacked"
  owners() { debugfs -R "ls -l $1" "$work/one.ext4" 2> /dev/null | awk 'NF { print $4 ":" $5 }' | sort -u; }
  check "rootfs: owned by root" test "$(owners /)$(owners /bbb-many)" = "0:00:0"
  check "rootfs: modes kept" grep -q 100555 <(debugfs -R "ls -l /aaa-tool/bin" "$work/one.ext4" 2> /dev/null)
  echo "$work/store/ddd-linux-dev" >> "$work/store.paths"
  refused "rootfs: a forbidden path" "must not be in an image" rootfs "$work/store.paths" "" "ddd-linux-dev" "$work/x.ext4"
fi
exit $failed
