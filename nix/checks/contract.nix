# What an evaluated guest must be to keep the guest contract. Each entry has
# what is wanted and what was got; it holds when the two are equal.
#
# Only plain values are looked at: nothing is built.
{tenant}: let
  inherit (tenant) config pkgs;
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) isx86_64;
  inherit (config.boot.kernelPackages) kernel;
  fcBase = config.mvm.firecracker;

  # All of these must be in the list; none of those may be.
  has = list: these: {
    want = [];
    got = lib.subtractLists list these;
  };
  hasNot = list: those: {
    want = [];
    got = lib.intersectLists list those;
  };
  is = want: got: {inherit want got;};

  words = s: lib.filter (w: w != "") (lib.splitString " " s);
  lines = s: lib.filter (l: words l != []) (lib.splitString "\n" s);

  # The lines of fstab by mount point, with options in alphabetical order.
  mounts = lib.listToAttrs (map (line: let
    field = lib.elemAt (words line);
    options = lib.sort lib.lessThan (lib.splitString "," (field 3));
  in
    lib.nameValuePair (field 1) {
      device = field 0;
      type = field 2;
      # As the kernel sees them; the others are for systemd.
      options = lib.filter (o: !lib.hasPrefix "x-" o) options;
      inInitrd = lib.elem "x-initrd.mount" options;
      waits = lib.filter (lib.hasPrefix "x-systemd.device-timeout=") options;
      checked = field 5 != "0";
    }) (lib.filter (l: !lib.hasPrefix "#" l) (lines config.environment.etc.fstab.text)));

  # sshd's configuration as it reads it: keywords in any case. Of keywords given
  # twice it takes the first, so twice is once too often.
  sshd = let
    text = v:
      if lib.isBool v
      then
        (
          if v
          then "yes"
          else "no"
        )
      else if lib.isList v
      then lib.concatStringsSep " " v
      else toString v;
    given = config.services.openssh.settings;
    settings = map (k: "${k} ${text given.${k}}") (lib.filter (k: given.${k} != null) (lib.attrNames given));
    pairs = map words (settings ++ lines config.services.openssh.extraConfig);
  in
    lib.mapAttrs (_: map (pair: lib.concatStringsSep " " (lib.tail pair)))
    (lib.groupBy (pair: builtins.unsafeDiscardStringContext (lib.toLower (lib.head pair))) pairs);

  units = import ./units.nix {inherit lib config;};

  # Where something in the JSON names what only a host has.
  hostKeys = ["path_on_host" "host_dev_name" "guest_mac" "socket" "uds_path" "guest_cid" "kernel_image_path" "initrd_path" "log_path" "metrics_path"];
  namesOfHost = value:
    if lib.isAttrs value
    then
      lib.concatMap (k: lib.optional (lib.elem k hostKeys && value.${k} != null) k ++ namesOfHost value.${k})
      (lib.attrNames value)
    else if lib.isList value
    then lib.concatMap namesOfHost value
    else [];

  # The outputs of the kernel that the artifacts are made from.
  kernelOutputs = artifact:
    lib.concatMap (drv: drv.outputs or [])
    (lib.attrValues (lib.filterAttrs (path: _: path == builtins.unsafeDiscardStringContext kernel.drvPath)
        (builtins.getContext artifact.buildCommand)));
in {
  # Drives
  "drive image" = is {
    device = "/dev/vda";
    type = "ext4";
    options = ["nodev" "nosuid" "ro"];
    inInitrd = true;
    waits = [];
    checked = false;
  } (mounts."/nix/store" or null);
  "drive data" = is {
    device = "/dev/vdb";
    type = "ext4";
    options = ["nodev" "nofail" "nosuid"];
    inInitrd = false;
    waits = ["x-systemd.device-timeout=30s"];
    checked = true;
  } (mounts."/data" or null);
  "drive secrets" = is {
    device = "/dev/vdc";
    type = "ext4";
    options = ["nodev" "noexec" "nofail" "nosuid" "ro"];
    inInitrd = false;
    waits = ["x-systemd.device-timeout=30s"];
    checked = false;
  } (mounts."/run/secrets" or null);
  "volumes before sshd" = is true (lib.elem "sshd.service" config.systemd.services.mvm-volumes.before);
  "volumes without devices" = is true (lib.hasInfix " -o rw,nodev,nosuid " config.systemd.services.mvm-volumes.script);
  "root is volatile" = is "tmpfs" (mounts."/".type or null);
  "no other drives" = is ["/" "/data" "/nix/store" "/run/secrets"] (lib.attrNames mounts);

  # Kernel and initrd
  "kernel parameters" = has config.boot.kernelParams (
    ["console=ttyS0" "net.ifnames=0" "panic=1" "boot.panic_on_fail"]
    ++ lib.optionals isx86_64 ["reboot=a" "i8042.noaux" "i8042.nomux" "i8042.dumbkbd"]
  );
  # What mvm says itself, what would make Firecracker's root device of a drive,
  # and what takes away modules, ACPI or the keyboard that asks to shut down.
  "no foreign kernel parameters" = is [] (lib.filter (p:
    lib.any (prefix: lib.hasPrefix prefix p) ["ip=" "systemd.hostname=" "systemd.machine_id=" "mvm." "root=/dev" "nomodule" "acpi=off" "pci=off" "i8042.nopnp"])
  config.boot.kernelParams);
  "systemd in the initrd" = is true config.boot.initrd.systemd.enable;
  "modules in the initrd" = has (config.boot.initrd.kernelModules ++ config.boot.initrd.availableKernelModules) (
    ["virtio_mmio" "virtio_blk" "virtio_net" "virtio_rng" "ext4" "overlay" "erofs" "loop"]
    ++ lib.optionals isx86_64 ["i8042" "atkbd"]
  );
  "kernel output" = is ["out"] (lib.unique (kernelOutputs config.system.build.mvm.kernel));
  "kernel.dev forbidden in the image" = has config.system.build.mvm.rootfs.forbidden [
    (baseNameOf (builtins.unsafeDiscardStringContext "${kernel.dev}"))
  ];

  # Ending
  "ctrl-alt-del reboots" = is "reboot.target" config.systemd.ctrlAltDelUnit;
  "power off ends the VMM" = is "reboot-force" (config.systemd.services.systemd-poweroff.unitConfig.SuccessAction or null);
  "halt ends the VMM" = is "reboot-force" (config.systemd.services.systemd-halt.unitConfig.SuccessAction or null);

  # SSH
  "sshd port" = is ["22"] (sshd.port or []);
  "sshd host key" = is ["/run/secrets/ssh/ssh_host_ed25519_key"] (sshd.hostkey or []);
  "sshd authorized keys" = is ["/run/secrets/ssh/authorized_keys"] (sshd.authorizedkeysfile or []);
  "sshd methods" = is ["publickey"] (sshd.authenticationmethods or []);
  "sshd passwords" = is ["no"] (sshd.passwordauthentication or []);
  "sshd keyboard" = is ["no"] (sshd.kbdinteractiveauthentication or []);
  "sshd root" = is ["prohibit-password"] (sshd.permitrootlogin or []);
  "sshd users" = is ["root"] (sshd.allowusers or []);
  "sshd keys by command" = is "none" config.services.openssh.authorizedKeysCommand;
  "sshd needs the secrets drive" = is "/run/secrets" (config.systemd.services.sshd.unitConfig.RequiresMountsFor or null);
  "sshd says that it listens" =
    is true (lib.any (lib.hasInfix "/dev/console")
      (config.systemd.services.sshd.serviceConfig.ExecStartPost or []));
  "no host key is made" = is [] (
    map (k: k.path) config.services.openssh.hostKeys
    ++ lib.optional (lib.hasInfix "ssh-keygen" (config.systemd.services.sshd.preStart or "")) "sshd.service"
    # The unit may be there, with nothing to do.
    ++ lib.optional (lib.hasInfix "ssh-keygen" (config.systemd.services.sshd-keygen.script or "")) "sshd-keygen.service"
  );
  "no key in the image" =
    is [] (lib.concatMap (u: u.openssh.authorizedKeys.keys ++ u.openssh.authorizedKeys.keyFiles)
      (lib.attrValues config.users.users));

  # Network
  "networkd alone" = is [true false] [config.networking.useNetworkd config.networking.useDHCP];
  "no network configured" = is [] (lib.attrNames config.systemd.network.networks);
  "ip= is read" = is [true ["sysinit.target"]] [
    (lib.elem "systemd-network-generator.service" config.systemd.additionalUpstreamSystemUnits)
    (config.systemd.services.systemd-network-generator.wantedBy or [])
  ];
  "the gateway is on the link" =
    is true (lib.any (lib.hasInfix "GatewayOnLink=yes")
      (config.systemd.services.systemd-network-generator.serviceConfig.ExecStartPost or []));
  "nothing waits for the network" = is false config.systemd.services.systemd-networkd-wait-online.enable;
  "no name of its own" = is "" config.networking.hostName;
  "no IPv6" = is false config.networking.enableIPv6;
  "resolver on loopback" =
    is true (lib.all (l: lib.elem l (lines config.environment.etc."systemd/resolved.conf.d/50-mvm.conf".text))
      ["FallbackDNS=" "LLMNR=no" "MulticastDNS=no"]);
  "no sockets on the network" = is [] units.listening;

  # Immutable and without secrets
  "no nix" = is false config.nix.enable;
  "no switch" = is false config.system.switch.enable;
  "etc is read-only" = is [true false] [config.system.etc.overlay.enable config.system.etc.overlay.mutable];
  "users are fixed" = is false config.users.mutableUsers;
  "no perl in the activation" = is false (lib.hasInfix "/bin/perl" config.system.activationScripts.script);
  "no perl in the path" = is [] (lib.filter (lib.hasInfix "perl") (map lib.getName config.environment.systemPackages));
  "no documentation" = is false config.documentation.enable;
  "no machine id" = is "" (config.environment.etc.machine-id.text or null);
  "no passwords" = is [] (lib.attrNames (lib.filterAttrs (_: u:
    lib.any (p: p != null) [u.password u.hashedPassword u.hashedPasswordFile u.initialPassword u.initialHashedPassword])
  config.users.users));
  "journal in memory" = is true (lib.elem "Storage=volatile" (lines config.environment.etc."systemd/journald.conf".text));

  # Units
  "no console to log in at" = is [false "/dev/null" []] [
    config.console.enable
    (config.systemd.generators.systemd-getty-generator or null)
    (lib.subtractLists config.systemd.suppressedSystemUnits ["getty.target" "getty@.service" "serial-getty@.service"])
  ];
  "no SSH on a vsock" = is "/dev/null" (config.systemd.generators.systemd-ssh-generator or null);
  "no emergency shell" = is [false false] [config.systemd.enableEmergencyMode config.boot.initrd.systemd.emergencyAccess];
  "every unit has its reason" = is [] units.unexplained;

  # What NixOS finds fault with: options that moved, settings that don't go together.
  "no warnings" = is [] config.warnings;

  # Base configuration
  "drives in their order" = is ["rootfs" "data" "secrets"] (map (d: d.drive_id) fcBase.drives);
  "drives that can be written" = is ["data"] (map (d: d.drive_id) (lib.filter (d: !d.is_read_only) fcBase.drives));
  "no root device" = is [] (map (d: d.drive_id) (lib.filter (d: d.is_root_device) fcBase.drives));
  "names nothing of a host" = is [] (namesOfHost fcBase);
  "sections" = is [] (lib.subtractLists ["boot-source" "drives" "machine-config" "network-interfaces" "entropy" "vsock" "balloon" "cpu-config"] (lib.attrNames fcBase));
  "entropy device" = is true (fcBase.entropy or null != null);
  "boots this system" = is true (lib.elem "init=${builtins.unsafeDiscardStringContext "${config.system.build.toplevel}"}/init" (words fcBase.boot-source.boot_args));
  "room on the command line" = is true (lib.stringLength fcBase.boot-source.boot_args < 1200);
}
