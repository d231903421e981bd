package build

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// outputPrefix begins the names of the outputs that make up a guest.
const outputPrefix = "tenant-"

// outputKinds maps the contract's names to artifacts, in the order in which
// they are built and reported.
var outputKinds = []struct {
	kind, artifact string
	optional       bool
}{
	{"kernel", Kernel, false},
	{"rootfs", Rootfs, false},
	{"initrd", Initrd, true},
	{"fc-base", BaseConfig, false},
}

// pickNix is a function of a flake's packages. It chooses the outputs' suffix
// and instantiates only what it chose.
//
//go:embed pick.nix
var pickNix string

// pickExpr applies pickNix to the candidates for <name>, in order of
// preference. Ids and profiles were validated; they are quoted all the same.
func pickExpr(tenant, profile string) string {
	suffixes := []string{"-" + tenant, "-" + profile}
	if profile == DefaultProfile {
		suffixes = append(suffixes, "")
	}
	quoted := make([]string, len(suffixes))
	for i, s := range suffixes {
		quoted[i] = nixString(s)
	}
	return "(" + strings.TrimSpace(pickNix) + ") [ " + strings.Join(quoted, " ") + " ]"
}

func nixString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(s) + `"`
}

// plan is what pickNix returns.
type plan struct {
	// Suffix is the chosen one; Found says whether there was any.
	Found  bool     `json:"found"`
	Suffix string   `json:"suffix"`
	Have   []string `json:"have"` // all outputs that begin with tenant-
	// Outputs has the chosen ones by kind.
	Outputs map[string]plannedOutput `json:"outputs"`
	Nix     string                   `json:"nix"` // its version
}

type plannedOutput struct {
	Type string `json:"type"` // derivation, or what it is instead
	Drv  string `json:"drv"`
	Out  string `json:"out"`
}

func parsePlan(data []byte) (plan, error) {
	var p plan
	_, data, ok := bytes.Cut(append([]byte("\n"), data...), []byte("\n\n"))
	if !ok {
		return plan{}, errors.New("cannot read Nix's list of outputs: it has no end")
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return plan{}, fmt.Errorf("cannot read Nix's list of outputs: %w", err)
	}
	return p, nil
}

// problem says what is wrong with the flake's outputs, or nil.
func (p plan) problem(tenant, profile, system string) error {
	if !p.Found {
		return p.noName(tenant, profile, system)
	}
	var missing []string
	for _, k := range outputKinds {
		attr := outputPrefix + k.kind + p.Suffix
		out, ok := p.Outputs[k.kind]
		if !ok {
			if !k.optional {
				missing = append(missing, attr)
			}
			continue
		}
		if out.Type != "derivation" {
			return &Error{Kind: ErrInput,
				Msg:  fmt.Sprintf("the flake's output packages.%s.%s is a %s, not a derivation", system, attr, out.Type),
				Hint: "every output of the contract is something that Nix builds"}
		}
	}
	if len(missing) > 0 {
		return &Error{Kind: ErrInput,
			Msg:  fmt.Sprintf("the flake has no packages.%s.%s", system, strings.Join(missing, " and no ")),
			Hint: "it has " + p.list()}
	}
	return nil
}

func (p plan) noName(tenant, profile, system string) error {
	profiles := p.profiles()
	e := &Error{Kind: ErrInput,
		Msg: fmt.Sprintf("the flake defines no guest for tenant %q or profile %q: packages.%s has neither %srootfs-%s nor %srootfs-%s",
			tenant, profile, system, outputPrefix, tenant, outputPrefix, profile)}
	switch {
	case len(profiles) > 0:
		e.Hint = "its profiles are " + strings.Join(profiles, ", ")
	case len(p.Have) > 0:
		e.Hint = "it has " + p.list()
	default:
		e.Hint = fmt.Sprintf("a guest needs the outputs %skernel-%s, %srootfs-%s and %sfc-base-%s",
			outputPrefix, profile, outputPrefix, profile, outputPrefix, profile)
	}
	return e
}

func (p plan) list() string {
	if len(p.Have) == 0 {
		return "no outputs that begin with " + outputPrefix
	}
	return strings.Join(p.Have, ", ")
}

// profiles are the names that have a root file system.
func (p plan) profiles() []string {
	var names []string
	for _, attr := range p.Have {
		if name, ok := strings.CutPrefix(attr, outputPrefix+"rootfs-"); ok {
			names = append(names, name)
		} else if attr == outputPrefix+"rootfs" {
			names = append(names, DefaultProfile)
		}
	}
	sort.Strings(names)
	return names
}
