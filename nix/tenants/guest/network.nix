# One interface, configured by the ip= that mvm puts on the kernel command line.
# No DHCP, no IPv6, no names but what ip= brings: nothing to wait for.
{pkgs, ...}: {
  networking = {
    hostName = ""; # comes as systemd.hostname=, the machine id as systemd.machine_id=
    useNetworkd = true;
    useDHCP = false;
    enableIPv6 = false;
    usePredictableInterfaceNames = false;
    # Who may reach this guest is decided outside of it, by the host's rules
    # at the tenant's own port. A second firewall would add nothing to that.
    firewall.enable = false;
  };

  # Turns ip= into a network file for networkd. NixOS ships it for the initrd
  # only; here the interface is set up once, after the root has been switched.
  systemd.additionalUpstreamSystemUnits = ["systemd-network-generator.service"];
  systemd.services.systemd-network-generator = {
    wantedBy = ["sysinit.target"];
    # The gateway may be outside the netmask, which ip= has no word for. Without
    # ip= there is no file, and nothing to do.
    serviceConfig.ExecStartPost = ["-${pkgs.gnused}/bin/sed -i /^Gateway=/aGatewayOnLink=yes /run/systemd/network/70-eth0.network"];
  };

  systemd.network.wait-online.enable = false;

  # The DNS servers are those of ip= and no others, and the resolver listens on
  # the loopback address alone. As a drop-in, since the options have moved.
  environment.etc."systemd/resolved.conf.d/50-mvm.conf".text = ''
    [Resolve]
    FallbackDNS=
    LLMNR=no
    MulticastDNS=no
  '';
}
