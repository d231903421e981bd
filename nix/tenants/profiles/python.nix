# The baseline with Python. A tenant's own packages join as
# (pkgs.python3.withPackages (p: [ p.requests ])), or live in a virtual
# environment on /data: the image itself can't be written to.
{pkgs, ...}: {
  imports = [../baseline.nix];

  environment.systemPackages = [pkgs.python3];
}
