# Units that NixOS would start and a microVM has no use for. What remains, and
# why, is listed in docs/nixos-guest.md.
{
  lib,
  options,
  ...
}: {
  # No hardware of these kinds.
  boot =
    {
      swraid.enable = false;
      bcache.enable = false;
      initrd.systemd = lib.optionalAttrs (options.boot.initrd.systemd ? tpm2) {tpm2.enable = false;};
    }
    // lib.optionalAttrs (options.boot ? kexec) {kexec.enable = lib.mkDefault false;};
  powerManagement.enable = lib.mkDefault false;
  services.fstrim.enable = lib.mkDefault false; # the drives have no discard to offer
  services.lvm.enable = false;

  # Nobody's service manager outlives a session, and no record of logins is kept.
  users = lib.optionalAttrs (options.users ? manageLingering) {manageLingering = lib.mkDefault false;};
  security.pam.services.login = lib.optionalAttrs (options.security.pam.services.type.getSubOptions [] ? lastlog) {
    lastlog.enable = lib.mkForce false;
  };

  # No console to log in at: neither a virtual terminal nor, for console=ttyS0,
  # the getty that systemd would start there.
  console.enable = false;
  systemd =
    {
      suppressedSystemUnits = [
        "getty.target"
        "getty-pre.target"
        "getty@.service"
        "autovt@.service"
        "serial-getty@.service"
        # They would work on what is kept across boots, or make it anew in
        # every boot since it isn't: nothing is, and the first two hold up all
        # the others.
        "systemd-journal-catalog-update.service"
        "systemd-update-done.service"
        "systemd-random-seed.service"
        "systemd-pstore.service"
        "mount-pstore.service"
      ];
      generators = {
        systemd-getty-generator = "/dev/null";
        systemd-gpt-auto-generator = "/dev/null"; # no partitions
      };

      # The kernel's own killer suffices for one workload, and there is no disk
      # to keep core dumps on.
      oomd.enable = lib.mkDefault false;
      coredump.enable = lib.mkDefault false;

      # Shutting down, the drives are unmounted one by one; a root in memory and
      # a read-only store can be left as they are.
      shutdownRamfs.enable = lib.mkDefault false;
    }
    // lib.optionalAttrs (options.systemd ? tpm2) {tpm2.enable = false;};
}
