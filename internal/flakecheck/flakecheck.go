// Package flakecheck tells which guests a flake offers and what is missing from
// them, by the flake contract (docs/flake-contract.md).
//
// It owns the contract's names and the words for what is wrong. It must not know
// how a flake is evaluated: the caller does that, in a container, and hands in
// the answer.
package flakecheck

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Expr is a Nix function of a flake's packages. What it yields, as JSON, is
// what Parse reads.
//
//go:embed offers.nix
var Expr string

// Systems are the systems that a guest can be for.
var Systems = []string{"aarch64-linux", "x86_64-linux"}

// kinds are the outputs that make up a guest. A guest without an initrd mounts
// its image by itself.
var kinds = []struct {
	name     string
	optional bool
}{
	{"rootfs", false},
	{"kernel", false},
	{"fc-base", false},
	{"initrd", true},
}

// labelPattern is what a tenant's id and a profile look like.
var labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Report is what a flake offers.
type Report struct {
	Guests []Guest `json:"guests"` // by system and name
	// Other has the systems with guests that no host can run.
	Other []string `json:"other_systems,omitempty"`
	// Strays are outputs that look like the contract's and are none of it.
	Strays []Problem `json:"strays,omitempty"`
}

// Guest is one guest for one system.
type Guest struct {
	System string `json:"system"`
	Name   string `json:"name"` // a tenant's id or a profile; "" for the outputs without a suffix
	Initrd bool   `json:"initrd"`
	// Problems are what keeps it from being built, in the order of the contract.
	Problems []Problem `json:"problems,omitempty"`
}

// Problem is an output and what is wrong with it, worded to follow its name.
type Problem struct {
	Output string `json:"output"` // packages.x86_64-linux.tenant-kernel-acme
	Why    string `json:"why"`    // is missing
}

// Complete says whether the guest can be built.
func (g Guest) Complete() bool { return len(g.Problems) == 0 }

// OK says whether the flake offers guests and all of them are complete.
func (r Report) OK() bool {
	return len(r.Guests) > 0 && !slices.ContainsFunc(r.Guests, func(g Guest) bool { return !g.Complete() })
}

// Check evaluates a flake with eval, which applies a Nix function to the
// flake's packages and returns what it yields as JSON.
func Check(ctx context.Context, ref string, eval func(ctx context.Context, ref, expr string) ([]byte, error)) (Report, error) {
	data, err := eval(ctx, ref, Expr)
	if err != nil {
		return Report{}, fmt.Errorf("cannot evaluate %s: %w", ref, err)
	}
	report, err := Parse(data)
	if err != nil {
		return Report{}, fmt.Errorf("cannot check %s: %w", ref, err)
	}
	return report, nil
}

// Parse reads what Expr yields.
func Parse(data []byte) (Report, error) {
	var packages map[string]map[string]string // system, output, type
	if err := json.Unmarshal(data, &packages); err != nil {
		return Report{}, fmt.Errorf("cannot read Nix's list of outputs: %w", err)
	}
	var r Report
	for _, system := range slices.Sorted(maps.Keys(packages)) {
		if !slices.Contains(Systems, system) {
			if len(packages[system]) > 0 {
				r.Other = append(r.Other, system)
			}
			continue
		}
		r.addSystem(system, packages[system])
	}
	return r, nil
}

// addSystem sorts the outputs of one system into guests.
func (r *Report) addSystem(system string, outputs map[string]string) {
	found := map[string]map[string]string{} // name, kind, type
	for _, output := range slices.Sorted(maps.Keys(outputs)) {
		kind, name, why := split(output)
		if why != "" {
			r.Strays = append(r.Strays, Problem{path(system, output), why})
			continue
		}
		if found[name] == nil {
			found[name] = map[string]string{}
		}
		found[name][kind] = outputs[output]
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		r.Guests = append(r.Guests, newGuest(system, name, found[name]))
	}
}

func newGuest(system, name string, types map[string]string) Guest {
	g := Guest{System: system, Name: name}
	for _, kind := range kinds {
		output := path(system, strings.TrimSuffix("tenant-"+kind.name+"-"+name, "-"))
		typ, ok := types[kind.name]
		switch {
		case !ok && kind.optional:
		case !ok:
			g.Problems = append(g.Problems, Problem{output, "is missing"})
		case typ == "error":
			g.Problems = append(g.Problems, Problem{output, "cannot be evaluated"})
		case typ != "derivation":
			g.Problems = append(g.Problems, Problem{output, fmt.Sprintf("is a %s, not a derivation", typ)})
		}
		g.Initrd = g.Initrd || ok && kind.name == "initrd"
	}
	return g
}

// split takes an output's name apart, or says why it is none of a guest's.
func split(output string) (kind, name, why string) {
	rest := strings.TrimPrefix(output, "tenant-")
	for _, k := range kinds {
		if rest == k.name {
			return k.name, "", ""
		}
		if name, ok := strings.CutPrefix(rest, k.name+"-"); ok {
			if !labelPattern.MatchString(name) {
				return "", "", fmt.Sprintf("belongs to no guest: %q can be neither a tenant's id nor a profile", name)
			}
			return k.name, name, ""
		}
	}
	return "", "", "is no output of the contract: those are tenant-rootfs, tenant-kernel, tenant-fc-base and tenant-initrd"
}

func path(system, output string) string { return "packages." + system + "." + output }
