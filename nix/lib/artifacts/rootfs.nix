# The read-only image of a guest: an ext4 file system of the store paths that
# its system needs, the same bits from the same inputs on every host.
{
  lib,
  runCommand,
  closureInfo,
  e2fsprogs,
  fakeroot,
  toplevel,
  exclude ? [],
  forbidden ? [],
}: let
  # Names without the paths behind them: neither may be built or downloaded just
  # to be left out.
  names = map (p: baseNameOf (builtins.unsafeDiscardStringContext "${p}"));
in
  runCommand "tenant-rootfs.ext4" {
    nativeBuildInputs = [e2fsprogs fakeroot];
    closure = closureInfo {rootPaths = [toplevel];};
    exclude = names exclude;
    forbidden = names forbidden;

    # The image names store paths without needing them: what boots it has
    # no store. Without this it would drag its closure along.
    __structuredAttrs = true;
    unsafeDiscardReferences.out = true;
  } ''
    bash ${./rootfs.sh} "$closure/store-paths" "''${exclude[*]}" "''${forbidden[*]}" "''${outputs[out]}"
  ''
