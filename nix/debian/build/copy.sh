# $out: $source as it is.
. "$lib"
cp "$source" "$out"
