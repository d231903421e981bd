package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/flock"
	"github.com/auser/mvm/internal/run"
)

// IPTables loads the rules with iptables and ipset, for hosts where nft does
// not work. It is weaker in two points: a change is one transaction for each
// table, not for all; and without ebtables, tenants can fill the host's
// neighbour table.
type IPTables struct{}

// Name is "iptables".
func (IPTables) Name() string { return "iptables" }

// variants are the suffixes of the commands: the host's default, then the one
// that does not need nftables in the kernel.
var variants = []string{"", "-legacy"}

// ipt is one variant in use.
type ipt struct{ suffix string }

func (v ipt) save(ctx context.Context) (iptState, error) {
	out, err := run.Output(ctx, "iptables"+v.suffix+"-save")
	if err != nil {
		return iptState{}, err
	}
	return parseSave(string(out)), nil
}

func (v ipt) restore(ctx context.Context, family, script string) error {
	return run.Run(ctx, run.Command{
		Name: family + v.suffix + "-restore", Args: []string{"--wait", "5", "--noflush"}, Stdin: strings.NewReader(script),
	})
}

func restoreSets(ctx context.Context, script string) error {
	return run.Run(ctx, run.Command{Name: "ipset", Args: []string{"restore"}, Stdin: strings.NewReader(script)})
}

// variant chooses the commands: those that hold our rules, else the first that
// can hold them.
func (p IPTables) variant(ctx context.Context, b Base) (ipt, iptState, error) {
	if _, err := exec.LookPath("ipset"); err != nil {
		return ipt{}, iptState{}, err
	}
	var usable []ipt
	var errs []error
	for _, suffix := range variants {
		v := ipt{suffix}
		state, err := v.save(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if state.present(b) {
			return v, state.own(b), nil
		}
		usable = append(usable, v)
	}
	for _, v := range usable {
		err := inOwnNamespace(func() error { return v.load(ctx, b, nil) })
		if err == nil {
			state, err := v.save(ctx)
			return v, state.own(b), err
		}
		errs = append(errs, err)
	}
	return ipt{}, iptState{}, errors.Join(errs...)
}

// Check loads the rules in a network namespace of its own.
func (p IPTables) Check(ctx context.Context, b Base) error {
	_, _, err := p.variant(ctx, b)
	return err
}

// load makes the base rules and the tenants' part of what there is.
func (v ipt) load(ctx context.Context, b Base, tenants []Tenant) error {
	state, err := v.save(ctx)
	if err != nil {
		return err
	}
	state = state.own(b)
	if err := restoreSets(ctx, b.ipsets()); err != nil {
		return err
	}
	if err := v.restore(ctx, "iptables", b.restore(state)); err != nil {
		return err
	}
	if err := v.loadIPv6(ctx, b); err != nil {
		return err
	}
	if err := ebtablesBase(ctx, b); err != nil {
		return err
	}
	for _, t := range tenants {
		if err := v.loadTenant(ctx, b, t); err != nil {
			return err
		}
	}
	return nil
}

// loadIPv6 drops what tenants send by IPv6, where the host has ip6tables. The
// bridge itself has IPv6 switched off.
func (v ipt) loadIPv6(ctx context.Context, b Base) error {
	name := "ip6tables" + v.suffix
	if _, err := exec.LookPath(name + "-restore"); err != nil {
		return nil
	}
	out, err := run.Output(ctx, name+"-save", "-t", "raw")
	if err != nil {
		return nil // a kernel without IPv6
	}
	hooked := slices.Contains(parseSave(string(out)).chains["raw PREROUTING"], "-j "+b.ipt(chainIPv6))
	return v.restore(ctx, "ip6tables", b.restore6(hooked))
}

func (v ipt) loadTenant(ctx context.Context, b Base, t Tenant) error {
	// What the policy takes away goes before what it gives comes.
	if err := restoreSets(ctx, b.ipsetAdd(t)); err != nil {
		return err
	}
	if err := v.loadAllowlist(ctx, b, t); err != nil {
		return err
	}
	return ebtablesAdd(ctx, b, t)
}

// loadAllowlist makes or removes the tenant's own chain.
func (v ipt) loadAllowlist(ctx context.Context, b Base, t Tenant) error {
	state, err := v.save(ctx)
	if err != nil {
		return err
	}
	chain := b.iptAllowChain(t.IP)
	dispatch := fmt.Sprintf("-s %s/32 -g %s", t.IP, chain)
	dispatched := slices.Contains(state.chains["raw "+b.ipt(chainAllow)], dispatch)
	if t.Policy.Mode == Allow {
		return v.restore(ctx, "iptables", b.iptTenant(t, dispatched))
	}
	_, there := state.chains["raw "+chain]
	var s script
	s.line("*raw")
	if dispatched {
		s.line("-D %s %s", b.ipt(chainAllow), dispatch)
	}
	if there {
		s.line("-F %s", chain)
		s.line("-X %s", chain)
	}
	s.line("COMMIT")
	if !dispatched && !there {
		return nil
	}
	return v.restore(ctx, "iptables", s.String())
}

// Add makes the tenant part of the rules.
func (p IPTables) Add(ctx context.Context, b Base, t Tenant) error {
	return locked(func() error {
		v, state, err := p.variant(ctx, b)
		if err != nil {
			return err
		}
		if !state.intact(b) {
			if err := v.load(ctx, b, nil); err != nil {
				return err
			}
		}
		return v.loadTenant(ctx, b, t)
	})
}

// Remove takes the tenant out.
func (p IPTables) Remove(ctx context.Context, b Base, t Tenant) error {
	return locked(func() error {
		sets, err := ownSets(ctx, b)
		if err != nil || len(sets) == 0 {
			return err
		}
		v, _, err := p.variant(ctx, b)
		if err != nil {
			return err
		}
		if len(sets) == len(b.ipsetNames()) && b.Subnet.Contains(t.IP) {
			if err := restoreSets(ctx, b.ipsetRemove(t)); err != nil {
				return err
			}
		}
		t.Policy = Policy{Mode: None}
		if err := v.loadAllowlist(ctx, b, t); err != nil {
			return err
		}
		return ebtablesRemove(ctx, b, t.TAP)
	})
}

// Replace sets right what differs. The base rules are replaced in one
// transaction for each table; sets keep the elements that are right.
func (p IPTables) Replace(ctx context.Context, b Base, tenants []Tenant) error {
	stale, err := p.stale(ctx, b, tenants)
	if err != nil {
		return err
	}
	for _, t := range stale {
		if err := p.Remove(ctx, b, t); err != nil {
			return err
		}
	}
	return locked(func() error {
		v, _, err := p.variant(ctx, b)
		if err != nil {
			return err
		}
		return v.load(ctx, b, tenants)
	})
}

// stale are the tenants in the rules that should not be there.
func (p IPTables) stale(ctx context.Context, b Base, tenants []Tenant) ([]Tenant, error) {
	diffs, err := p.Diff(ctx, b, tenants)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, t := range tenants {
		wanted[identity(t)] = true
	}
	var out []Tenant
	for _, d := range diffs {
		if !d.Base() && !wanted[identity(d.Tenant)] {
			out = append(out, d.Tenant)
		}
	}
	return out, nil
}

// Clear removes chains, hooks and sets.
func (p IPTables) Clear(ctx context.Context, b Base) error {
	return locked(func() error {
		for _, suffix := range variants {
			if err := (ipt{suffix}).clear(ctx, b); err != nil {
				return err
			}
		}
		if err := ebtablesClear(ctx, b); err != nil {
			return err
		}
		sets, err := ownSets(ctx, b)
		if err != nil {
			return err
		}
		var s script
		for _, name := range sets {
			s.line("destroy %s", name)
		}
		return restoreSets(ctx, s.String())
	})
}

func (v ipt) clear(ctx context.Context, b Base) error {
	for _, family := range []string{"iptables", "ip6tables"} {
		out, err := run.Output(ctx, family+v.suffix+"-save")
		if err != nil {
			continue // a host without them has nothing of ours in them
		}
		state := parseSave(string(out)).own(b)
		if !state.present(b) {
			continue
		}
		if err := v.restore(ctx, family, state.removal(b)); err != nil {
			return err
		}
	}
	return nil
}

// ownSets are the names of our sets that exist.
func ownSets(ctx context.Context, b Base) ([]string, error) {
	if _, err := exec.LookPath("ipset"); err != nil {
		return nil, nil
	}
	out, err := run.Output(ctx, "ipset", "list", "-n")
	if err != nil {
		return nil, err
	}
	var own []string
	for _, name := range strings.Fields(string(out)) {
		if slices.Contains(b.ipsetNames(), name) {
			own = append(own, name)
		}
	}
	return own, nil
}

// locked keeps two changes of the rules in this network namespace apart, which
// are several commands each. The lock is one on the namespace itself.
func locked(fn func() error) error {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock.Lock(f, unix.LOCK_EX); err != nil {
		return fmt.Errorf("cannot lock the firewall: %w", err)
	}
	return fn()
}
