# The units that the configuration starts, and why each of them does.
#
# Units that come enabled from systemd itself can't be seen before it is built;
# docs/nixos-guest.md lists them beside these.
{
  lib,
  config,
}: let
  reasons = {
    "sshd.service" = "the way in";
    "mvm-volumes.service" = "mounts the volumes beside the data, where there are any";
    "systemd-network-generator.service" = "turns ip= into networkd's configuration";
    "systemd-networkd.service" = "sets up eth0";
    "systemd-networkd.socket" = "keeps the kernel's messages for networkd until it is up";
    "systemd-networkd-varlink-metrics.socket" = "networkd's own, on a local socket";
    "systemd-resolved.service" = "names, from the servers in ip=";
    "network-online.target" = "reached at once, since nothing waits";
    "network-local-commands.service" = "empty unless a tenant sets networking.localCommands";
    "systemd-modules-load.service" = "boot.kernelModules";
    "systemd-sysctl.service" = "boot.kernel.sysctl";
    "systemd-tmpfiles-resetup.service" = "with a configuration switch, so never here";
    "userborn.service" = "makes /etc/passwd and its like";
    "suid-sgid-wrappers.service" = "su and the like, for users other than root";
    "audit.service" = "switches the kernel's auditing off";
    "nscd.service" = "loads the name service modules of systemd (not in minimal)";
    "systemd-timesyncd.service" = "keeps a long-running guest's clock (not in minimal)";
    "systemd-journald-audit.socket" = "the journal's own, on netlink";
    "dbus.service" = "started by its socket when something asks";
    "dbus-broker.service" = "the same, where NixOS' default is the broker";
    "logrotate.timer" = "only where a tenant switches log rotation on";
    # When the guest ends
    "save-hwclock.service" = "at the end: writes the clock back";
    # Never in a microVM
    "prepare-kexec.service" = "part of kexec.target";
    "pre-sleep.service" = "part of sleep.target";
    "post-resume.target" = "part of sleep.target";
    "post-resume.service" = "part of sleep.target";
  };

  suppressed = config.systemd.suppressedSystemUnits;
  started = lib.filterAttrs (name: unit:
    unit.enable && unit.wantedBy ++ unit.requiredBy != [] && !lib.elem name suppressed)
  config.systemd.units;

  # An address is a port, or has one behind a colon; all else is a path, a name
  # or a netlink family.
  onNetwork = address: builtins.match "([0-9.*]+|\\[.*]):?[0-9]+|[0-9]+|vsock:.*" (toString address) != null;
  listensOn = socket: let
    inherit (socket) socketConfig;
  in
    lib.filter onNetwork (socket.listenStreams
      or []
      ++ socket.listenDatagrams or []
      ++ lib.concatMap (k: lib.toList (socketConfig.${k} or [])) ["ListenStream" "ListenDatagram" "ListenSequentialPacket"]);
in {
  inherit reasons;
  started = lib.attrNames started;
  unexplained = lib.attrNames (removeAttrs started (lib.attrNames reasons));
  listening = lib.concatMap listensOn (lib.attrValues (lib.filterAttrs (_: s: s.enable) config.systemd.sockets));
}
