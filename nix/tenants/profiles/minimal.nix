# The smallest and fastest guest: a kernel with the modules it uses, systemd,
# sshd, a shell and coreutils. What a tenant adds is all there is beside them.
{
  config,
  lib,
  options,
  pkgs,
  ...
}: let
  inherit (config.boot.kernelPackages) kernel;
  kernelModules = lib.getOutput "modules" kernel;
in {
  imports = [../baseline.nix];

  # Of some five thousand kernel modules, those that are named somewhere: by the
  # initrd, by boot.kernelModules, and the devices that a VMM can add. A module
  # that a service wants to load on demand goes into boot.kernelModules.
  system.modulesTree = lib.mkForce ([
      (pkgs.makeModulesClosure {
        kernel = kernelModules;
        firmware = pkgs.runCommand "no-firmware" {} "mkdir -p $out/lib/firmware";
        rootModules =
          config.boot.initrd.availableKernelModules
          ++ config.boot.initrd.kernelModules
          ++ config.boot.kernelModules
          ++ ["virtio_balloon" "vmw_vsock_virtio_transport" "af_packet"];
        # As without this: NixOS names modules that not every kernel has, and
        # the initrd has a strict list of its own.
        allowMissing = true;
      })
    ]
    ++ config.boot.extraModulePackages);

  environment =
    {
      # Prompt and colours for a person need more than this; scripts don't.
      systemPackages = [pkgs.bashInteractive pkgs.coreutils];
    }
    // lib.optionalAttrs (options.environment ? corePackages) {
      corePackages = lib.mkForce [];
    };

  # Names come from files and from the resolver's own address; without modules
  # to load, no daemon is needed to load them.
  services.nscd.enable = false;
  system.nssModules = lib.mkForce [];

  # Root alone logs in, without sessions: nobody needs another's privileges, a
  # seat or a lingering service manager.
  security = lib.optionalAttrs (options.security ? enableWrappers) {
    enableWrappers = lib.mkDefault false;
  };
  services.logind = lib.optionalAttrs (options.services.logind ? enable) {enable = false;};
  systemd.suppressedSystemUnits =
    [
      # Debugging interfaces of the kernel, and file systems nobody mounts here.
      "sys-kernel-debug.mount"
      "sys-kernel-tracing.mount"
      "dev-hugepages.mount"
      "dev-mqueue.mount"
    ]
    ++ lib.optionals (!(options.services.logind ? enable)) [
      "systemd-logind.service"
      "systemd-user-sessions.service"
      "dbus-org.freedesktop.login1.service"
      "user@.service"
      "user-runtime-dir@.service"
    ];

  # The guest's clock follows the host's when it boots. A guest that runs for
  # weeks wants the baseline profile, or this switched on again.
  services.timesyncd.enable = lib.mkDefault false;
}
