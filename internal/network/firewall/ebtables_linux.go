package firewall

import (
	"context"
	"os/exec"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// ebtables filters ARP where the host has it: one chain that only ARP frames
// enter.

func hasEbtables() bool {
	_, err := exec.LookPath("ebtables")
	return err == nil
}

func ebtables(ctx context.Context, args ...string) (string, error) {
	out, err := run.Output(ctx, "ebtables", append([]string{"--concurrent", "-t", "nat"}, args...)...)
	return string(out), err
}

// arpChain is what the ARP chain holds.
type arpChain struct {
	exists, hooked bool
	rules          []string
}

func readARP(ctx context.Context, b Base) (arpChain, error) {
	var c arpChain
	if !hasEbtables() {
		return c, nil
	}
	out, err := ebtables(ctx, "-L", "--Lc")
	if err != nil {
		return c, nil // a kernel without it
	}
	chain := ""
	for _, line := range strings.Split(out, "\n") {
		if rest, ok := strings.CutPrefix(line, "Bridge chain: "); ok {
			chain, _, _ = strings.Cut(rest, ",")
			c.exists = c.exists || chain == b.ipt(chainARP)
			continue
		}
		rule, _, _ := strings.Cut(line, " , pcnt")
		switch {
		case chain == "PREROUTING" && rule == "-p ARP -j "+b.ipt(chainARP):
			c.hooked = true
		case chain == b.ipt(chainARP) && strings.HasPrefix(line, "-"):
			c.rules = append(c.rules, strings.TrimSpace(line))
		}
	}
	return c, nil
}

// of returns the rules of one TAP.
func (c arpChain) of(tap string) []string {
	var out []string
	for _, r := range c.rules {
		if strings.Contains(r+" ", " -i "+tap+" ") {
			out = append(out, r)
		}
	}
	return out
}

func ebtablesBase(ctx context.Context, b Base) error {
	if !hasEbtables() {
		return nil
	}
	c, err := readARP(ctx, b)
	if err != nil {
		return err
	}
	if !c.exists {
		if _, err := ebtables(ctx, "-N", b.ipt(chainARP), "-P", "RETURN"); err != nil {
			return nil // a kernel without it
		}
	}
	if c.hooked {
		return nil
	}
	_, err = ebtables(ctx, "-I", "PREROUTING", "1", "-p", "ARP", "-j", b.ipt(chainARP))
	return err
}

func ebtablesAdd(ctx context.Context, b Base, t Tenant) error {
	c, err := readARP(ctx, b)
	if err != nil || !c.exists {
		return err
	}
	if c.right(b, t) {
		return nil
	}
	if err := ebtablesRemove(ctx, b, t.TAP); err != nil {
		return err
	}
	for _, rule := range b.arpRules(t) {
		if _, err := ebtables(ctx, append([]string{"-A", b.ipt(chainARP)}, rule...)...); err != nil {
			return err
		}
	}
	return nil
}

// right says whether the tenant's rules are there.
func (c arpChain) right(b Base, t Tenant) bool {
	is, want := c.of(t.TAP), b.arpRules(t)
	if len(is) != len(want) {
		return false
	}
	for i := range is {
		rule, _, _ := strings.Cut(is[i], " , pcnt")
		if strings.TrimSpace(rule) != strings.Join(want[i], " ") {
			return false
		}
	}
	return true
}

func ebtablesRemove(ctx context.Context, b Base, tap string) error {
	c, err := readARP(ctx, b)
	if err != nil {
		return err
	}
	for _, rule := range c.of(tap) {
		rule, _, _ := strings.Cut(rule, " , pcnt")
		if _, err := ebtables(ctx, append([]string{"-D", b.ipt(chainARP)}, strings.Fields(rule)...)...); err != nil {
			return err
		}
	}
	return nil
}

func ebtablesClear(ctx context.Context, b Base) error {
	c, err := readARP(ctx, b)
	if err != nil || !c.exists {
		return err
	}
	if c.hooked {
		if _, err := ebtables(ctx, "-D", "PREROUTING", "-p", "ARP", "-j", b.ipt(chainARP)); err != nil {
			return err
		}
	}
	for _, act := range []string{"-F", "-X"} {
		if _, err := ebtables(ctx, act, b.ipt(chainARP)); err != nil {
			return err
		}
	}
	return nil
}
