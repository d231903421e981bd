# SSH for root with the keys on the secrets drive, and in no other way.
{
  lib,
  options,
  pkgs,
  ...
}: let
  keys = "/run/secrets/ssh";
in {
  services.openssh =
    {
      enable = true;
      openFirewall = false;
      authorizedKeysFiles = lib.mkForce ["${keys}/authorized_keys"];
      authorizedKeysInHomedir = false;
      # With no key listed NixOS generates none; the one that mvm made and pins
      # is named to sshd directly.
      hostKeys = [];
      extraConfig = "HostKey ${keys}/ssh_host_ed25519_key";
      settings = {
        AuthenticationMethods = "publickey";
        PasswordAuthentication = false;
        KbdInteractiveAuthentication = false;
        PermitRootLogin = "prohibit-password";
        AllowUsers = lib.mkDefault ["root"];
      };
    }
    // lib.optionalAttrs (options.services.openssh ? generateHostKeys) {generateHostKeys = false;};

  systemd.services.sshd = {
    # No secrets drive, no sshd: it would have neither host key nor visitors.
    unitConfig.RequiresMountsFor = "/run/secrets";
    # On the console, for whoever waits for it or wonders when it was.
    serviceConfig.ExecStartPost = ["${pkgs.runtimeShell} -c 'echo guest: the SSH server listens > /dev/console'"];
  };

  # A session of logind per login would start a service manager for root before
  # the first command runs.
  security.pam.services.sshd.startSession = lib.mkOverride 60 false;

  # systemd would offer SSH on a vsock as well; this guest has one way in.
  systemd.generators.systemd-ssh-generator = "/dev/null";
}
