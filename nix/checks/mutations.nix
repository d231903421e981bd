# Guests with something wrong with them, and the assertions of contract.nix that
# must not hold then: these and no others. Every assertion is broken by one.
#
# What one module breaks has nothing to do with the other things that it breaks;
# they stand together because each needs an evaluation of its own.
{lib}: let
  inherit (lib) mkForce;
in [
  {
    name = "drives mounted otherwise";
    breaks = ["drive image" "drive data" "drive secrets" "root is volatile" "no other drives"];
    module.fileSystems = {
      "/" = mkForce {
        device = "/dev/vdd";
        fsType = "ext4";
      };
      "/nix/store".options = mkForce ["nodev" "nosuid"];
      "/data".options = ["noexec"];
      "/run/secrets".options = mkForce ["ro" "nodev" "nosuid" "nofail" "x-systemd.device-timeout=30s"];
      "/mnt" = {
        device = "/dev/vdd";
        fsType = "ext4";
      };
    };
  }
  {
    name = "another device, checked, and waited for";
    breaks = ["drive image" "drive data" "drive secrets"];
    module.fileSystems = {
      "/nix/store".neededForBoot = true;
      "/nix/store".noCheck = mkForce false;
      "/data".device = mkForce "/dev/vdc";
      "/run/secrets".options = mkForce ["ro" "noexec" "nodev" "nosuid" "nofail"];
    };
  }
  {
    name = "volumes late, and with devices";
    breaks = ["volumes before sshd" "volumes without devices"];
    module.systemd.services.mvm-volumes = {
      before = mkForce [];
      script = mkForce "mount -o rw /dev/vdd /work";
    };
  }
  {
    name = "another kernel command line";
    breaks = ["kernel parameters" "no foreign kernel parameters"];
    module.boot.kernelParams = mkForce ["console=ttyS0" "ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off"];
  }
  {
    name = "another way to boot and to end";
    breaks = ["systemd in the initrd" "modules in the initrd" "ctrl-alt-del reboots" "etc is read-only" "no perl in the activation" "power off ends the VMM" "halt ends the VMM" "no warnings"];
    module = {
      warnings = ["newer releases have one of their own for this initrd"];
      boot.initrd = {
        systemd.enable = mkForce false;
        kernelModules = mkForce ["virtio_mmio" "ext4"];
      };
      system.etc.overlay.enable = mkForce false;
      systemd.ctrlAltDelUnit = mkForce "poweroff.target";
      systemd.services = {
        systemd-poweroff.unitConfig.SuccessAction = mkForce "poweroff-force";
        systemd-halt.unitConfig.SuccessAction = mkForce "halt-force";
      };
    };
  }
  {
    name = "artifacts with the kernel's dev output";
    breaks = ["kernel output" "kernel.dev forbidden in the image"];
    module = {
      config,
      pkgs,
      ...
    }: {
      system.build.mvm = mkForce {
        kernel = pkgs.runCommand "vmlinux" {} "cp ${config.boot.kernelPackages.kernel.dev}/vmlinux $out";
        rootfs.forbidden = [];
      };
    };
  }
  {
    name = "sshd for passwords and other keys";
    breaks = ["sshd port" "sshd host key" "sshd authorized keys" "sshd methods" "sshd passwords" "sshd keyboard" "sshd root" "sshd users" "sshd keys by command" "sshd needs the secrets drive" "sshd says that it listens"];
    module = {
      services.openssh = {
        ports = [2222];
        extraConfig = mkForce "HostKey /etc/ssh/key\nPort 2222\nAuthorizedKeysFile %h/.ssh/authorized_keys";
        settings = {
          AuthenticationMethods = mkForce "any";
          PasswordAuthentication = mkForce true;
          KbdInteractiveAuthentication = mkForce true;
          PermitRootLogin = mkForce "yes";
          AllowUsers = ["guest"];
        };
        authorizedKeysCommand = "/bin/keys";
      };
      systemd.services.sshd = {
        unitConfig.RequiresMountsFor = mkForce "/etc";
        serviceConfig.ExecStartPost = mkForce [];
      };
    };
  }
  {
    name = "sshd told twice";
    breaks = ["sshd host key" "sshd passwords"];
    module.services.openssh.extraConfig = "PasswordAuthentication yes\nhostkey /etc/ssh/other";
  }
  {
    name = "keys and passwords in the image";
    breaks = ["no host key is made" "no key in the image" "no passwords" "no machine id" "sshd host key"];
    module = {
      services.openssh.hostKeys = [
        {
          path = "/etc/ssh/ssh_host_ed25519_key";
          type = "ed25519";
        }
      ];
      users.users.root = {
        openssh.authorizedKeys.keys = ["ssh-ed25519 AAAA somebody"];
        initialHashedPassword = "";
      };
      environment.etc.machine-id.text = mkForce "00112233445566778899aabbccddeeff";
    };
  }
  {
    name = "another network";
    breaks = ["networkd alone" "no network configured" "ip= is read" "the gateway is on the link" "nothing waits for the network" "no name of its own" "no IPv6" "resolver on loopback" "no sockets on the network" "every unit has its reason"];
    module = {
      networking = {
        useDHCP = mkForce true;
        hostName = mkForce "guest";
        enableIPv6 = mkForce true;
      };
      systemd.network = {
        wait-online.enable = mkForce true;
        networks.eth0 = {
          name = "eth0";
          DHCP = "yes";
        };
      };
      systemd.services.systemd-network-generator = {
        wantedBy = mkForce [];
        serviceConfig.ExecStartPost = mkForce [];
      };
      environment.etc."systemd/resolved.conf.d/50-mvm.conf".text = mkForce "[Resolve]\nFallbackDNS=\nLLMNR=yes\nMulticastDNS=no\n";
      systemd.sockets.open = {
        wantedBy = ["sockets.target"];
        listenStreams = ["8080"];
      };
    };
  }
  {
    name = "a system to change";
    breaks = ["no nix" "no switch" "no perl in the path" "no documentation" "journal in memory" "users are fixed" "etc is read-only" "every unit has its reason"];
    module = {pkgs, ...}: {
      nix.enable = mkForce true;
      users.mutableUsers = mkForce true;
      system.etc.overlay.mutable = mkForce true;
      system.switch.enable = mkForce true;
      environment.systemPackages = [pkgs.perl];
      documentation.enable = mkForce true;
      services.journald.storage = mkForce "persistent";
    };
  }
  {
    name = "perl at boot";
    breaks = ["no perl in the activation"];
    module = {pkgs, ...}: {
      system.activationScripts.perl = "${pkgs.perl}/bin/perl -e 1";
    };
  }
  {
    name = "consoles and shells";
    breaks = ["no console to log in at" "no SSH on a vsock" "no emergency shell" "every unit has its reason"];
    module = {
      console.enable = mkForce true;
      systemd.generators.systemd-ssh-generator = mkForce "/bin/generator";
      systemd.enableEmergencyMode = mkForce true;
      systemd.services.surprise = {
        wantedBy = ["multi-user.target"];
        script = "true";
      };
    };
  }
  {
    name = "a base configuration that reaches out";
    breaks = ["drives in their order" "drives that can be written" "no root device" "names nothing of a host" "sections" "entropy device" "boots this system" "room on the command line"];
    module.mvm.firecracker = {
      boot-source.boot_args = mkForce (lib.concatStrings (lib.genList (_: "mitigations=off ") 80));
      drives = [
        {
          drive_id = "data";
          is_root_device = true;
          is_read_only = false;
          path_on_host = "/dev/sda";
        }
        {
          drive_id = "rootfs";
          is_root_device = false;
          is_read_only = false;
        }
        {
          drive_id = "secrets";
          is_root_device = false;
          is_read_only = true;
        }
      ];
      entropy = mkForce null;
      logger.log_path = "/var/log/x";
    };
  }
]
