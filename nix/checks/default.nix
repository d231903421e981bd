# The flake's own checks: `nix flake check` evaluates them all and builds them.
#
# Here stands what can be asserted of the real artifacts, on the release that
# flake.lock pins. scripts/check-nix tests these checks themselves.
{
  nixpkgs,
  pkgs,
  mvm,
  tenants,
}: let
  inherit (nixpkgs) lib;

  # The assertions on the evaluated guest, as a build that fails with a list.
  contract = name: tenant: let
    broken = lib.filterAttrs (_: a: a.want != a.got) (import ./contract.nix {inherit tenant;});
    report = lib.concatStrings (lib.mapAttrsToList (what: a: "${what}: want ${json a.want}, got ${json a.got}\n") broken);
    json = value: builtins.unsafeDiscardStringContext (builtins.toJSON value);
  in
    pkgs.runCommand "tenant-${name}-contract" {
      inherit report;
      passAsFile = ["report"];
    } ''
      if [ -s "$reportPath" ]; then
        cat "$reportPath"
        exit 1
      fi
      touch $out
    '';

  # What the image really holds.
  image = name: tenant:
    pkgs.runCommand "tenant-${name}-image" {nativeBuildInputs = [pkgs.e2fsprogs];} ''
      mkdir root
      debugfs -R "rdump / root" ${tenant.rootfs}
      bash ${./no-secrets.sh} root

      init=$(grep -o 'init=/nix/store/[^ "]*' ${tenant.fcBase})
      test -e "root/''${init#init=/nix/store/}" || { echo "$init is not in the image"; exit 1; }

      ls root > names
      if grep -E -- '-linux-[0-9].*-dev$' names; then echo "a kernel's dev output is in the image"; exit 1; fi
      ${lib.optionalString (name != "python") ''
        if grep -E -- '-perl-[0-9]' names; then echo "perl is in the image"; exit 1; fi
      ''}
      touch $out
    '';

  # The recipe for images and kernels, with the tools that it is used with.
  scripts =
    pkgs.runCommand "artifact-scripts" {
      nativeBuildInputs = with pkgs; [e2fsprogs fakeroot gawk gzip lz4 xz zstd];
    } ''
      mkdir lib
      cp -r ${../lib/artifacts} lib/artifacts
      cp -r ${./.} checks
      bash checks/scripts-test.sh | tee log
      ! grep -q '^NOT RUN' log
      touch $out
    '';
in
  {inherit mvm scripts;}
  // lib.mapAttrs' (name: tenant: lib.nameValuePair "${name}-contract" (contract name tenant)) tenants
  // lib.mapAttrs' (name: tenant: lib.nameValuePair "${name}-image" (image name tenant)) tenants
