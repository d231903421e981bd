{
  description = "A small web service as a tenant";

  inputs.mvm.url = "github:auser/mvm?dir=nix";

  outputs = {mvm, ...}:
    mvm.lib.mkFlake {
      tenants.default = {
        profile = "minimal";
        modules = [./web.nix];
      };
    };
}
