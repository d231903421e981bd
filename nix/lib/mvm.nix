# The program itself, from the Go sources beside this folder.
{
  lib,
  buildGo126Module,
}:
buildGo126Module {
  pname = "mvm";
  version = "0";

  # Only what the build reads, so that a word changed in the docs builds nothing.
  src = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.unions [../../go.mod ../../go.sum ../../cmd ../../internal];
  };

  # Of the Go version, the language counts: nixpkgs may have an older patch.
  postPatch = "sed -i -E 's/^go ([0-9]+\\.[0-9]+)\\..*/go \\1.0/' go.mod";

  # The hash of what `go mod vendor` makes. scripts/check-nix computes it
  # and says when it has moved.
  vendorHash = lib.fileContents ./vendor-hash;

  subPackages = ["cmd/mvm"];
  env.CGO_ENABLED = 0;
  ldflags = ["-s" "-w"];

  # They need root, network namespaces and a container engine.
  doCheck = false;

  meta = {
    description = "Runs untrusted tenants in Firecracker microVMs built from Nix flakes";
    homepage = "https://github.com/auser/mvm";
    license = lib.licenses.mit;
    mainProgram = "mvm";
    platforms = lib.platforms.linux;
  };
}
