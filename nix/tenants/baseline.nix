# The guest that every profile starts from. It keeps mvm's guest contract
# (docs/guest-contract.md) and is NixOS in everything else: add modules to it.
{lib, ...}: {
  imports = [
    ./guest/boot.nix
    ./guest/disks.nix
    ./guest/volumes.nix
    ./guest/network.nix
    ./guest/ssh.nix
    ./guest/immutable.nix
    ./guest/units.nix
    ./guest/artifacts.nix
  ];

  # What /data holds belongs to the tenant and outlives every image, so the
  # layout that services expect there must not move with the release.
  system.stateVersion = lib.mkDefault "26.05";
}
