# An appliance: nothing in it changes but /data, and nothing of it is there to
# change it. No Nix, no configuration switch, no perl, no documentation.
{
  lib,
  modulesPath,
  ...
}: {
  imports = ["${modulesPath}/profiles/image-based-appliance.nix"];

  # /etc is an image of its own, mounted read-only by the initrd; users are made
  # at boot by userborn. Together they replace NixOS' perl scripts.
  system.etc.overlay = {
    enable = true;
    mutable = false;
  };
  services.userborn.enable = true;
  # Empty: systemd puts the id that it is started with in its place. Without the
  # file it would take a read-only /etc for a system that can't boot.
  environment.etc.machine-id = {
    mode = "0444";
    text = "";
  };

  # Root has no password and needs none: keys only.
  users.allowNoPasswordLogin = true;

  system.disableInstallerTools = true;
  programs.nano.enable = false;
  security.sudo.enable = lib.mkDefault false;
  i18n.defaultLocale = lib.mkDefault "C.UTF-8";
  fonts.fontconfig.enable = lib.mkDefault false;
}
