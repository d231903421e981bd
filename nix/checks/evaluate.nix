# Evaluates the flake against a nixpkgs tree that lies on this machine, without
# copying or building anything: what scripts/check-nix reads its answers from.
{nixpkgs}: let
  tree = nixpkgs;

  # The tree as the flake input that it would be.
  input = (import (tree + "/flake.nix")).outputs {self = input // {outPath = toString tree;};};
  inherit (input) lib;

  flake = (import ../flake.nix).outputs {
    self = flake;
    nixpkgs = input;
  };

  # The assertions that don't hold, with what was wanted and what was got.
  broken = tenant: lib.filterAttrs (_: a: a.want != a.got) (contract tenant);
  contract = tenant: import ./contract.nix {inherit tenant;};

  tenant = system: profile: flake.lib.mkTenant {inherit system profile;};

  isGuest = name: lib.hasPrefix "tenant-" name;
in {
  inherit (lib.trivial) release;
  inherit (flake.lib) systems profiles;
  inherit (flake) packages;

  # What the program would be built from, and how.
  program = import ../lib/mvm.nix {
    inherit lib;
    buildGo126Module = args: {inherit (args) src postPatch subPackages ldflags vendorHash;};
  };

  # Everything a tenant's build would be asked for, to the last derivation.
  drvPaths = lib.mapAttrs (_: lib.mapAttrs (_: p: p.drvPath)) (
    lib.mapAttrs (_: lib.filterAttrs (name: _: isGuest name)) flake.packages
  );

  inherit tenant;
  broken = system: profile: broken (tenant system profile);

  # Of the profile in which everything else is left out.
  facts = lib.genAttrs flake.lib.systems (system:
    import ./facts.nix {
      inherit lib;
      inherit (tenant system "minimal") config;
    });

  # Whether a nixosSystem of one's own gives the same guest with this module.
  sameByModule = system: module: profile: let
    own = lib.nixosSystem {modules = [flake.nixosModules.${module} {nixpkgs.hostPlatform = system;}];};
  in
    lib.mapAttrs (_: a: a.drvPath) own.config.system.build.mvm
    == lib.genAttrs ["rootfs" "kernel" "initrd" "fcBase"] (name: (tenant system profile).${name}.drvPath);
  # Which Go the program's package asks for by name, and older releases lack.
  hasGo = input.legacyPackages.x86_64-linux ? buildGo126Module;

  base = system: profile: (tenant system profile).config.mvm.firecracker;
  units = system: profile:
    (import ./units.nix {
      inherit lib;
      inherit (tenant system profile) config;
    })
    .started;
  reasons =
    (import ./units.nix {
      inherit lib;
      config = {};
    })
    .reasons;

  # Flakes of other people, as they are in templates/ and examples/: a path to
  # the folder, for which the outputs' names are given.
  outputs = folder: let
    other = (import (folder + "/flake.nix")).outputs {
      self = other;
      mvm = flake;
      nixpkgs = input;
    };
  in
    lib.mapAttrs (_: lib.mapAttrs (_: p: p.drvPath)) other.packages;

  # For each mutation: what broke and what should have.
  mutations = system: let
    mutations = import ./mutations.nix {inherit lib;};
    tenant = module:
      flake.lib.mkTenant {
        inherit system;
        modules = [module];
      };
    sort = lib.sort lib.lessThan;
  in {
    names = map (m: m.name) mutations;
    # One at a time, so that a caller can give back the memory in between.
    run = name: let
      m = lib.findFirst (m: m.name == name) null mutations;
    in {
      want = sort m.breaks;
      got = lib.attrNames (broken (tenant m.module));
    };
    unbroken = lib.subtractLists (lib.concatMap (m: m.breaks) mutations) (lib.attrNames (contract (tenant {})));
  };
}
