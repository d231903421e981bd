# For evaluating the guest against NixOS 24.05, the newest whole tree that the
# checks have been run with. Declares the options that it lacks. Test-only.
{
  config,
  lib,
  ...
}: {
  options = lib.foldl' lib.recursiveUpdate {} (map (path:
    lib.setAttrByPath path (lib.mkOption {
      type = lib.types.unspecified;
      default = null;
    })) [
    ["services" "userborn" "enable"]
    ["boot" "kexec" "enable"]
  ]);

  config = {
    system.stateVersion = "24.05";
    # Userborn came later; its part is played by systemd's own sysusers.
    systemd.sysusers.enable = config.services.userborn.enable == true;
  };
}
