# What other flakes call: mkTenant makes one guest, mkFlake the outputs that
# mvm looks for. Both take ordinary NixOS modules.
{nixpkgs}: let
  inherit (nixpkgs) lib;

  systems = ["x86_64-linux" "aarch64-linux"];

  profiles = {
    baseline = [];
    minimal = [../tenants/profiles/minimal.nix];
    python = [../tenants/profiles/python.nix];
  };

  profileModules = name:
    profiles.${name}
    or (throw "mvm: there is no profile '${name}'; there are: ${lib.concatStringsSep ", " (lib.attrNames profiles)}");

  # One guest for one system. The result is a NixOS system, as nixosSystem
  # returns it, with the four artifacts beside its config.
  mkTenant = {
    system,
    modules ? [],
    profile ? "baseline",
    specialArgs ? {},
  }: let
    nixos = nixpkgs.lib.nixosSystem {
      inherit specialArgs;
      modules = [../tenants/baseline.nix {nixpkgs.hostPlatform = lib.mkDefault system;}] ++ profileModules profile ++ modules;
    };
  in
    nixos // {inherit (nixos.config.system.build.mvm) rootfs kernel initrd fcBase;};

  # The names that the flake contract gives to a tenant's artifacts. The tenant
  # "default" gets the names without a suffix.
  tenantPackages = name: tenant: let
    suffix = lib.optionalString (name != "default") "-${name}";
  in {
    "tenant-rootfs${suffix}" = tenant.rootfs;
    "tenant-kernel${suffix}" = tenant.kernel;
    "tenant-initrd${suffix}" = tenant.initrd;
    "tenant-fc-base${suffix}" = tenant.fcBase;
  };

  # All outputs of a flake that defines tenants: for each name the arguments of
  # mkTenant, without the system.
  mkFlake = {
    tenants,
    systems ? ["x86_64-linux" "aarch64-linux"],
  }: {
    packages = lib.genAttrs systems (system:
      lib.concatMapAttrs
      (name: tenant: tenantPackages name (mkTenant ({inherit system;} // tenant)))
      tenants);
  };
in {
  inherit systems mkTenant tenantPackages mkFlake;
  profiles = lib.attrNames profiles;
}
