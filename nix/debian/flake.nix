{
  description = "Tenant guests made of Debian packages: no nixpkgs, no network during the build";

  # Everything that goes into a guest is named, by hash, in packages.json,
  # which ./fetch-packages writes; the packages themselves are expected under
  # /cache while this flake is evaluated. See README.md.
  outputs = { self }:
    let
      record =
        if builtins.pathExists ./packages.json
        then builtins.fromJSON (builtins.readFile ./packages.json)
        else throw "nix/debian/packages.json is missing: run nix/debian/fetch-packages <cache folder> first";

      inherit (record) system;

      # The one executable that needs nothing else: every build script runs in
      # its shell, with its applets.
      busybox = builtins.fetchTarball {
        url = "file:///cache/${record.bootstrap.file}";
        sha256 = record.bootstrap.narHash;
      } + "/busybox";

      deb = key:
        let package = record.packages.${key};
        in builtins.fetchurl {
          url = "file:///cache/${package.file}";
          name = "${package.name}.deb";
          inherit (package) sha256;
        };

      debs = set: map deb record.sets.${set};

      build = name: script: environment: derivation ({
        inherit name system busybox;
        builder = busybox;
        args = [ "sh" "-eu" script ];
        lib = ./build/lib.sh;
        # Newer Nix keeps nothing but the bytes: no references to the inputs.
        allowedReferences = [ ];
      } // environment);

      # mke2fs, debugfs and lz4, run through their own dynamic loader.
      tools = build "debian-tools" ./build/tools.sh { debs = debs "tools"; };

      kernel = build "tenant-kernel" ./build/kernel.sh { debs = debs "kernel"; inherit tools; };

      initrd = build "tenant-initrd" ./build/initrd.sh { debs = debs "kernel"; init = ./initrd/init; };

      rootfs = profile: build "tenant-rootfs-${profile}" ./build/rootfs.sh {
        debs = debs profile;
        guest = ./guest;
        inherit profile tools;
      };

      fcBase = build "tenant-fc-base" ./build/copy.sh { source = ./fc-base.json; };

      outputs = suffix: profile: {
        "tenant-rootfs${suffix}" = rootfs profile;
        "tenant-kernel${suffix}" = kernel;
        "tenant-initrd${suffix}" = initrd;
        "tenant-fc-base${suffix}" = fcBase;
      };

      profiles = [ "baseline" "minimal" "python" ];
    in
    {
      packages.${system} = builtins.foldl'
        (all: profile: all // outputs "-${profile}" profile)
        (outputs "" "baseline")
        profiles;
    };
}
