# What can be tried out of an evaluated guest without building it, by the
# programs that read it: tests/nixos_test.go does so with facts.json, which
# scripts/check-nix compares with what it evaluates. No store paths, and nothing
# that differs between releases.
{
  lib,
  config,
}: let
  words = s: lib.filter (w: w != "") (lib.splitString " " s);
  lines = s: lib.filter (l: words l != [] && !lib.hasPrefix "#" l) (lib.splitString "\n" s);
  # Programs by their names alone.
  plain = s: lib.concatStrings (lib.filter lib.isString (builtins.split "/nix/store/[^ /]+/s?bin/" (builtins.unsafeDiscardStringContext s)));

  boot = config.mvm.firecracker.boot-source;
  sshd = config.services.openssh;
  yesNo = v:
    if lib.isBool v
    then
      (
        if v
        then "yes"
        else "no"
      )
    else lib.concatStringsSep " " (lib.toList v);
in {
  fstab = lines config.environment.etc.fstab.text;
  network = map plain config.systemd.services.systemd-network-generator.serviceConfig.ExecStartPost;
  resolved = lines config.environment.etc."systemd/resolved.conf.d/50-mvm.conf".text;
  sshd =
    lib.mapAttrsToList (name: v: "${name} ${yesNo v}") (lib.getAttrs
      ["AllowUsers" "AuthenticationMethods" "KbdInteractiveAuthentication" "PasswordAuthentication" "PermitRootLogin"]
      sshd.settings)
    ++ lib.filter (l: lib.elem (lib.head (words l)) ["AddressFamily" "AuthorizedKeysFile" "HostKey" "Port"]) (lines (plain sshd.extraConfig));
  firecracker =
    config.mvm.firecracker
    // {
      boot-source =
        boot
        // {
          boot_args = lib.concatStringsSep " " (lib.filter (w: !lib.hasPrefix "init=" w && !lib.hasPrefix "lsm=" w) (words boot.boot_args));
        };
    };
}
