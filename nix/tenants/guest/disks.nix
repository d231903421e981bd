# The three drives of the guest contract, in their fixed order, and a root that
# forgets everything. If a drive is missing, what needs it gives up after 30
# seconds (an emulated machine on a busy host may take some to find it), and
# nothing else waits.
{
  fileSystems = {
    "/" = {
      device = "tmpfs";
      fsType = "tmpfs";
      options = ["mode=0755" "size=25%" "nodev"];
    };

    # The image is a file system of store paths and is mounted as the store.
    "/nix/store" = {
      device = "/dev/vda";
      fsType = "ext4";
      neededForBoot = true;
      noCheck = true;
      options = ["ro" "nodev" "nosuid"];
    };

    "/data" = {
      device = "/dev/vdb";
      fsType = "ext4";
      options = ["nodev" "nosuid" "nofail" "x-systemd.device-timeout=30s"];
    };

    "/run/secrets" = {
      device = "/dev/vdc";
      fsType = "ext4";
      noCheck = true;
      options = ["ro" "noexec" "nodev" "nosuid" "nofail" "x-systemd.device-timeout=30s"];
    };
  };
}
