# The volumes beside the data: words on the kernel command line,
# mvm.volume.<device>=<mount point>, say which there are. One that can't be
# mounted is said on the console and holds up nothing else.
{
  lib,
  pkgs,
  ...
}: let
  mount = "${lib.getOutput "mount" pkgs.util-linux}/bin/mount";
in {
  systemd.services.mvm-volumes = {
    description = "Volumes beside the data";
    wantedBy = ["multi-user.target"];
    # Who comes in finds them.
    before = ["sshd.service"];
    unitConfig.ConditionKernelCommandLine = "mvm.volume.vdd"; # the first one's
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      StandardOutput = "journal+console";
      StandardError = "inherit";
    };
    script = ''
      set -f
      for word in $(cat /proc/cmdline); do
        case $word in
        mvm.volume.*=/*) ;;
        *) continue ;;
        esac
        device=''${word%%=*}
        device=/dev/''${device#mvm.volume.}
        at=''${word#*=}
        if ! { udevadm wait --timeout=30 "$device" && mkdir -p "$at" && ${mount} -t ext4 -o rw,nodev,nosuid "$device" "$at"; }; then
          echo "guest: no volume at $at: it is empty and forgets"
        fi
      done
    '';
  };
}
