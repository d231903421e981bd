# Serves ./site, as a user of its own that can write nothing.
{
  services.darkhttpd = {
    enable = true;
    address = "all";
    port = 80;
    rootDir = ./site;
  };
}
