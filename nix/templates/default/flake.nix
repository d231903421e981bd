{
  description = "A tenant: what runs in it is in tenant.nix";

  inputs.mvm.url = "github:auser/mvm?dir=nix";

  outputs = {mvm, ...}:
    mvm.lib.mkFlake {
      tenants.default.modules = [./tenant.nix];
    };
}
