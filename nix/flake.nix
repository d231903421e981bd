{
  description = "mvm: NixOS guests for tenant microVMs, and the program that runs them";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = {
    self,
    nixpkgs,
  }: let
    lib = import ./lib {inherit nixpkgs;};
    forSystems = nixpkgs.lib.genAttrs lib.systems;

    # The guests that this flake offers by name. "example" shows an output for
    # one tenant of its own; the others are the profiles.
    tenants = {
      default = {};
      baseline = {};
      minimal.profile = "minimal";
      python.profile = "python";
      example = {
        profile = "minimal";
        modules = [./tenants/example.nix];
      };
    };

    guests = lib.mkFlake {inherit tenants;};
  in {
    inherit lib;

    nixosModules = {
      tenant = ./tenants/baseline.nix;
      minimal = ./tenants/profiles/minimal.nix;
      python = ./tenants/profiles/python.nix;
      default = ./tenants/baseline.nix;
    };

    packages = forSystems (system:
      guests.packages.${system}
      // rec {
        mvm = nixpkgs.legacyPackages.${system}.callPackage ./lib/mvm.nix {};
        default = mvm;
      });

    checks = forSystems (system:
      import ./checks {
        inherit nixpkgs;
        mvm = self.packages.${system}.mvm;
        tenants = nixpkgs.lib.mapAttrs (_: tenant: lib.mkTenant ({inherit system;} // tenant)) tenants;
        pkgs = nixpkgs.legacyPackages.${system};
      });

    templates.default = {
      path = ./templates/default;
      description = "A tenant of your own: NixOS modules in, a microVM guest out";
    };

    formatter = forSystems (system: nixpkgs.legacyPackages.${system}.alejandra);
  };
}
