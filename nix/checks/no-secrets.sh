# no-secrets.sh ROOT
#
# Looks through ROOT, the unpacked image of a guest, for what no image may hold:
# private keys, SSH host or user keys, passwords, a machine id. Prints each find
# and fails if there is any. An image can be read by whoever has a copy of it.
set -euo pipefail

root=$1
found=0

find_them() { # WHAT, then arguments of find
  local what=$1 hit
  shift
  while read -r hit; do
    echo "$what: ${hit#"$root"}"
    found=1
  done < <(find "$root" "$@")
}

find_them "SSH host key" -name 'ssh_host_*_key'
find_them "SSH user key" \( -name authorized_keys -o -name 'id_rsa' -o -name 'id_ed25519' -o -name 'id_ecdsa' \) -type f -size +0
find_them "machine id" -path '*/etc/*' -name machine-id -type f -size +0
find_them "secrets" -name secrets.json -type f

# Python brings certificates with published keys, to test itself with.
while read -r hit; do
  case $hit in */lib/python3*/test/*) continue ;; esac
  echo "private key: ${hit#"$root"}"
  found=1
done < <(grep -rlaE -e '-----BEGIN ([A-Z]+ )?PRIVATE KEY-----' "$root" || true)

# A hash that opens an account, in a password file or in what makes one.
while read -r hit; do
  echo "password: ${hit#"$root"}"
  found=1
done < <(find "$root" \( -name shadow -o -name '*userborn*.json' -o -name 'users-groups.json' \) -type f \
  -exec grep -lE '(^[^:]+:|"(initialH|h)ashedPassword":")\$[0-9a-z]+\$|"(initialP|p)assword":"[^"]' {} + || true)

exit "$found"
