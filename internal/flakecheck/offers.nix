# A function of a flake's packages, of all systems: the outputs that begin with
# tenant- and what each of them is. Nothing is built, and an output that can't
# be evaluated does not keep the others from being listed.
packages:
let
  kind = value:
    let
      type =
        if !builtins.isAttrs value then builtins.typeOf value
        else if (value.type or null) == "derivation" then builtins.seq value.drvPath "derivation"
        else "set";
      tried = builtins.tryEval type;
    in
    if tried.success then tried.value else "error";
  isTenant = name: builtins.substring 0 7 name == "tenant-";
  offers = outputs: builtins.listToAttrs (map (name: { inherit name; value = kind outputs.${name}; })
    (builtins.filter isTenant (builtins.attrNames outputs)));
in
builtins.mapAttrs (_: offers) packages
