# What mvm takes from the built system: system.build.mvm.{rootfs,kernel,initrd,
# fcBase}, each a single file.
{
  config,
  lib,
  pkgs,
  ...
}: let
  inherit (config.system.build) toplevel initialRamdisk;
  inherit (config.boot.kernelPackages) kernel;
  inherit (pkgs.stdenv.hostPlatform) isx86_64;
  json = pkgs.formats.json {};
in {
  options.mvm.firecracker = lib.mkOption {
    type = json.type;
    default = {};
    example = {machine-config.mem_size_mib = 1024;};
    description = ''
      The base configuration for Firecracker, in its own words. mvm adds what it
      alone knows (paths, the interface's MAC address and TAP, the address on
      the kernel command line) and what was asked for the tenant (processors,
      memory), and refuses whatever names anything of the host.
    '';
  };

  config = {
    mvm.firecracker = {
      boot-source.boot_args = lib.concatStringsSep " " (config.boot.kernelParams
        # The path alone, without its context: the config must not pull in the
        # system that the image already carries.
        ++ ["init=${builtins.unsafeDiscardStringContext "${toplevel}"}/init"]);

      machine-config = {
        vcpu_count = lib.mkDefault 1;
        mem_size_mib = lib.mkDefault 512;
        smt = lib.mkDefault false;
      };

      # In this order they become vda, vdb and vdc. None is Firecracker's root
      # device: the initrd mounts the image itself.
      drives = let
        drive = drive_id: {
          inherit drive_id;
          is_root_device = false;
          is_read_only = true;
          rate_limiter = null;
        };
      in
        lib.mkDefault [
          (drive "rootfs")
          (drive "data"
            // {
              is_read_only = false;
              cache_type = "Writeback"; # the guest's fsync reaches the host's disk
            })
          (drive "secrets")
        ];

      network-interfaces = lib.mkDefault [
        {
          iface_id = "eth0";
          rx_rate_limiter = null;
          tx_rate_limiter = null;
        }
      ];

      entropy = lib.mkDefault {rate_limiter = null;};
      vsock = lib.mkDefault null;
      balloon = lib.mkDefault null;
    };

    system.build.mvm = {
      rootfs = pkgs.callPackage ../../lib/artifacts/rootfs.nix {
        inherit toplevel;
        # They reach the VMM as files of their own; in the image nothing would
        # ever read them. (A kernel without an output for its modules stays.)
        exclude = [initialRamdisk] ++ lib.optional (kernel ? modules) kernel;
        forbidden = lib.optional (kernel ? dev) kernel.dev;
      };
      kernel = pkgs.callPackage ../../lib/artifacts/kernel.nix {
        image = "${kernel}/${config.system.boot.loader.kernelFile}";
        format =
          if isx86_64
          then "vmlinux"
          else "Image";
      };
      initrd = pkgs.runCommand "tenant-initrd" {} ''
        cp --no-preserve=mode ${initialRamdisk}/${config.system.boot.loader.initrdFile} $out
      '';
      fcBase = json.generate "tenant-fc-base.json" config.mvm.firecracker;
    };
  };
}
