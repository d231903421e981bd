# An output for one tenant: `mvm tenant create example --flake …` gets this
# guest, whatever the profile, because the flake names it.
{pkgs, ...}: {
  environment.systemPackages = [pkgs.jq];

  # A service with its state on the data drive.
  systemd.services.boot-count = {
    description = "Count this tenant's boots on its data drive";
    wantedBy = ["multi-user.target"];
    # The data drive may be absent: a service that needs it says so.
    unitConfig.RequiresMountsFor = "/data";
    serviceConfig.Type = "oneshot";
    script = ''
      n=0
      if [ -e /data/boots ]; then n=$(cat /data/boots); fi
      echo $((n + 1)) > /data/boots.new
      mv /data/boots.new /data/boots
    '';
  };
}
