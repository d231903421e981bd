# An ordinary NixOS module: packages, services, users, files.
{pkgs, ...}: {
  environment.systemPackages = [pkgs.jq];

  systemd.services.hello = {
    wantedBy = ["multi-user.target"];
    unitConfig.RequiresMountsFor = "/data"; # kept from run to run
    serviceConfig.Type = "oneshot";
    script = "date >> /data/hello";
  };
}
