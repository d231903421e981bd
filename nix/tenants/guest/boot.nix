# From the VMM to the first process, and back out again.
{
  lib,
  pkgs,
  ...
}: let
  inherit (pkgs.stdenv.hostPlatform) isx86_64;
in {
  boot.loader.grub.enable = false; # the VMM loads the kernel itself

  boot.initrd = {
    systemd.enable = true;
    # Only what a microVM can have: the defaults are for SATA, USB and NVMe.
    includeDefaultModules = false;
    kernelModules = ["virtio_mmio" "virtio_blk" "ext4"];
    availableKernelModules =
      ["virtio_pci" "virtio_net" "virtio_rng"]
      # The keyboard is how Firecracker asks an x86 guest to shut down.
      ++ lib.optionals isx86_64 ["i8042" "atkbd"];
  };

  boot.kernelParams =
    [
      "console=ttyS0"
      "quiet" # the serial line is slow; failures are printed all the same
      "panic=1" # a guest that can't go on ends, and its supervisor learns of it
      "boot.panic_on_fail"
      "8250.nr_uarts=1"
    ]
    ++ lib.optionals isx86_64 [
      # Reset by ACPI, which QEMU's microvm has, and else by the keyboard
      # controller, which Firecracker has. Either ends the VMM.
      "reboot=a"
      "i8042.noaux"
      "i8042.nomux"
      "i8042.dumbkbd"
    ];

  # A reset ends every VMM. Firecracker on x86 would run on with a guest that is
  # powered off or halted: there is no power button.
  systemd.services = {
    systemd-poweroff.unitConfig.SuccessAction = "reboot-force";
    systemd-halt.unitConfig.SuccessAction = "reboot-force";
  };
  systemd.ctrlAltDelUnit = "reboot.target";

  # Nobody is at the console, and a shell there would ask for no password.
  systemd.enableEmergencyMode = false;

  services.journald = {
    storage = "volatile";
    # What goes wrong can be read in the console log, also when SSH can't be
    # reached. The journal itself stays in the guest's memory.
    extraConfig = ''
      RuntimeMaxUse=16M
      ForwardToConsole=yes
      TTYPath=/dev/ttyS0
      MaxLevelConsole=warning
    '';
  };
}
