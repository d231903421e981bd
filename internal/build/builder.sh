# Runs inside the build container, as an ordinary user, by `sh -c`. Everything
# it gets it gets as arguments; what it finds out it writes to /out.
#
#   $1 flake reference   $2 flake registry that it is looked up in, or nothing
#   $3 Nix expression that picks the outputs
#   $4 attribute holding them, such as packages.x86_64-linux
#   $5 1: refuse an incomplete lock   $6 1: build a second time and compare
#   $7 1: only evaluate: apply $3 to $4, write the result as JSON, build nothing
#   $8… for that, options that say where Nix takes the flake's inputs from
set -eu
umask 022
ref=$1 registry=$2 pick=$3 attr=$4 require_lock=$5 check=$6 only=$7
shift 7
say() { printf '@mvm %s\n' "$*" >&2; }

# A store that was not prepared for this user is prepared by the caller.
[ -O /nix ] || exit 97

# Standard input is a pipe that the caller holds: it ends when the caller does.
trap 'exit 143' TERM
exec 3<&0 </dev/null
(cat <&3 >/dev/null 2>&1 || :; kill -TERM $$) &

nix() { command nix --log-format internal-json "$@"; }
store() { command nix-store --log-format internal-json "$@"; }

# Copies what output $2 built at $1: a file, or the one file in a folder.
take() {
    file=$1
    if [ -d "$file" ]; then
        set -- "$1" "$2" "$1"/*
        if [ -f "$1/$2" ]; then file=$1/$2
        elif [ $# -eq 3 ] && [ -f "$3" ]; then file=$3
        else
            say "fail output $2: the folder $1 must hold one file, or one called $2"
            return 1
        fi
    fi
    cp --dereference --sparse=always --no-preserve=all "$file" "/out/$2"
}

# Locks the flake: what its inputs are, and whether its own lock says it all.
# Its arguments are Nix's.
lock() {
    say tentative
    if nix flake metadata --json --no-update-lock-file "$@" "$ref" >/out/metadata.json; then
        say definite
        return
    fi
    say definite
    if [ "$require_lock" = 1 ]; then say fail lock; return 1; fi
    nix flake metadata --json --no-write-lock-file "$@" "$ref" >/out/metadata.json || { say fail evaluate; return 1; }
    : >/out/unlocked
}

evaluate() {
    nix eval --raw --no-write-lock-file "$ref#$attr" --apply "$pick" >/out/plan && return
    [ $? -ne 137 ] || { say fail killed; return 1; }
    nix eval --json --no-write-lock-file "$ref#packages" --apply builtins.attrNames >/out/systems.json 2>/dev/null || :
    say fail evaluate
    return 1
}

build() {
    export HOME=/nix/var/mvm/home TMPDIR=/nix/var/mvm/tmp
    # What a build left that was killed may be closed even to its owner.
    [ ! -e "$TMPDIR" ] || { chmod -R u+rwX "$TMPDIR" && rm -rf "$TMPDIR"; }
    mkdir -p "$HOME" "$TMPDIR"
    printf %s "$registry" >/tmp/registry.json

    say phase evaluate
    lock "$@"
    # A branch may move between two commands: from here on it is this commit.
    case $ref in path:* | flake:*) ;; *)
        ref=$(nix eval --impure --raw --expr '(builtins.fromJSON (builtins.readFile "/out/metadata.json")).url') ;;
    esac
    if [ "$only" = 1 ]; then
        nix eval --json --no-write-lock-file "$@" "$ref#$attr" --apply "$pick" >/out/evaluated.json || { say fail evaluate; return 1; }
        return
    fi
    evaluate
    while read -r line && [ -n "$line" ]; do printf '%s\n' "$line"; done </out/plan >/tmp/lines
    [ -s /tmp/lines ] || { say fail outputs; return 1; }
    drvs=$(cut -d' ' -f1 /tmp/lines)
    paths=$(cut -d' ' -f2 /tmp/lines)
    while read -r drv path name; do
        case "
$(store --query --outputs "$drv")
" in *"
$path
"*) ;; *)
            say "fail output $name: it is no output of the derivation that it names"
            return 1
            ;;
        esac
    done </tmp/lines

    say phase build
    store --realise --add-root /nix/var/mvm/result $drvs >/dev/null

    if [ "$check" = 1 ]; then
        say phase check
        if ! store --realise --check --keep-failed $drvs >/dev/null; then
            while read -r drv path name; do
                if [ -e "$path.check" ]; then mkdir -p /out/check; take "$path.check" "$name" && mv "/out/$name" "/out/check/$name"; fi
            done </tmp/lines
            : >/out/differs
        fi
    fi

    # Builders share a user with the store. One that changed another's output
    # is found out here: what is copied has the hash that Nix recorded, now
    # that no builder runs any more.
    say phase copy
    store --verify-path $paths &
    verify=$!
    { nix path-info --json --json-format 1 --closure-size $paths 2>/dev/null ||
        nix path-info --json --closure-size $paths; } >/out/paths.json &
    info=$!
    while read -r drv path name; do take "$path" "$name"; done </tmp/lines
    wait $verify || { say fail modified; return 1; }
    wait $info
}

build "$@" &
wait $!
