suffixes: ps:
let
  kinds = {
    kernel = "kernel";
    rootfs = "rootfs.ext4";
    initrd = "initrd";
    fc-base = "fc-base.json";
  };
  required = [ "kernel" "rootfs" "fc-base" ];
  attr = suffix: kind: "tenant-${kind}${suffix}";
  usable = builtins.filter (s: ps ? ${attr s "rootfs"}) suffixes;
  found = usable != [ ];
  suffix = if found then builtins.head usable else "";
  # What a flake calls a derivation need not be one. The script puts its paths
  # into command lines, where another string could be an option of Nix's.
  storePath = ending: s: builtins.match "${builtins.storeDir}/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+${ending}" s != null;
  isDrv = v: builtins.isAttrs v && (v.type or null) == "derivation" && storePath "[.]drv" v.drvPath && storePath "" v.outPath;
  describe = v:
    if isDrv v then { type = "derivation"; drv = v.drvPath; out = v.outPath; }
    else { type = if builtins.isAttrs v then "set" else builtins.typeOf v; };
  present = builtins.filter (k: ps ? ${attr suffix k}) (builtins.attrNames kinds);
  outputs = if !found then { } else
    builtins.listToAttrs (map (k: { name = k; value = describe ps.${attr suffix k}; }) present);
  whole = found
    && builtins.all (k: outputs ? ${k}) required
    && builtins.all (o: o.type == "derivation") (builtins.attrValues outputs);
  lines = if !whole then "" else builtins.concatStringsSep ""
    (map (k: "${outputs.${k}.drv} ${outputs.${k}.out} ${kinds.${k}}\n") (builtins.attrNames outputs));
  # toJSON turns a set with an outPath into a string: that name is avoided.
  plan = builtins.toJSON {
    inherit found suffix outputs;
    have = builtins.filter (n: builtins.substring 0 7 n == "tenant-") (builtins.attrNames ps);
    nix = builtins.nixVersion;
  };
in
# First "derivation output artifact" a line for the script, none where
# something is wrong; then an empty line and the plan for mvm.
"${lines}\n${plan}\n"
