package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// NFT loads the rules with nftables, by its command: a transaction of any
// size over several tables is one text.
type NFT struct{}

// Name is "nft".
func (NFT) Name() string { return "nft" }

// apply is one transaction: everything of the script or nothing.
func (NFT) apply(ctx context.Context, script string, flags ...string) error {
	return run.Run(ctx, run.Command{Name: "nft", Args: append(flags, "-f", "-"), Stdin: strings.NewReader(script)})
}

// Check has the kernel try the rules without keeping them.
func (n NFT) Check(ctx context.Context, b Base) error {
	return n.apply(ctx, b.base(), "--check")
}

// Add is one transaction in the usual case, in which the base rules stand and
// the tenant is new or unchanged.
func (n NFT) Add(ctx context.Context, b Base, t Tenant) error {
	if n.apply(ctx, b.assert()+b.tenantAdd(t, false)) == nil {
		return nil
	}
	// Other base rules, or none, or another policy of the tenant.
	base := b.base() + b.stampOver(n.stamps(ctx, b))
	if n.apply(ctx, base+b.tenantAdd(t, false)) == nil {
		return nil
	}
	return n.apply(ctx, base+b.tenantAdd(t, true))
}

// assert fails a transaction where other base rules stand than b's.
func (b Base) assert() string { return fmt.Sprintf("flush chain inet %s %s\n", b.Table, b.stamp()) }

// stampOver replaces the stamps that were found by b's.
func (b Base) stampOver(found []string) string {
	var s script
	for _, name := range found {
		if name != b.stamp() {
			s.line("delete chain inet %s %s", b.Table, name)
		}
	}
	s.line("add chain inet %s %s", b.Table, b.stamp())
	return s.String()
}

// stamps are the names of the stamp chains there are, usually one or none.
func (n NFT) stamps(ctx context.Context, b Base) []string {
	_, packets, err := n.list(ctx, b)
	if err != nil {
		return nil // the transaction that follows says why
	}
	return slices.DeleteFunc(packets.chains(), func(name string) bool { return !strings.HasPrefix(name, stampPrefix) })
}

// Remove takes the tenant out, with its counters.
func (n NFT) Remove(ctx context.Context, b Base, t Tenant) error {
	parts := b.tenantRemove(t)
	if n.apply(ctx, strings.Join(parts, "")) == nil {
		return nil
	}
	var errs []error
	for _, part := range parts {
		if err := n.apply(ctx, part); err != nil && !absent(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// absent says that nft refused because something named is not there.
func absent(err error) bool {
	var failed *run.Error
	return errors.As(err, &failed) && strings.Contains(failed.Stderr, "No such file or directory")
}

// Replace changes what stands in place: tables and hooks that stay are never
// out of force, not even for a packet under way. Only tables that these rules
// do not fit into, such as another version's, are made anew.
func (n NFT) Replace(ctx context.Context, b Base, tenants []Tenant) error {
	_, packets, err := n.list(ctx, b)
	if err != nil {
		return err
	}
	if n.apply(ctx, b.replacement(packets.chains(), tenants)) == nil {
		diffs, err := n.Diff(ctx, b, tenants)
		if err != nil || !slices.ContainsFunc(diffs, Difference.Base) {
			return err
		}
	}
	return n.apply(ctx, b.clear()+b.replacement(nil, tenants))
}

// replacement renders everything; present are the chains there are, of which
// those that are no longer needed go.
func (b Base) replacement(present []string, tenants []Tenant) string {
	var s script
	s.WriteString(b.base())
	s.line("flush map inet %s egress", b.Table)
	s.line("flush set bridge %s ident", b.Table)
	wanted := map[string]bool{b.stamp(): true}
	for _, t := range tenants {
		if t.Policy.Mode == Allow {
			wanted[allowChain(t.IP)] = true
		}
		s.WriteString(b.tenantAdd(t, false))
	}
	for _, name := range present {
		mine := strings.HasPrefix(name, stampPrefix) || strings.HasPrefix(name, allowPrefix)
		if mine && !wanted[name] {
			s.dropChain(b.Table, name)
		}
	}
	s.line("add chain inet %s %s", b.Table, b.stamp())
	return s.String()
}

// Clear removes the tables, whether or not they are there.
func (n NFT) Clear(ctx context.Context, b Base) error { return n.apply(ctx, b.clear()) }

func (b Base) clear() string {
	var s script
	for _, family := range []string{"bridge", "inet"} {
		s.line("add table %s %s", family, b.Table)
		s.line("delete table %s %s", family, b.Table)
	}
	return s.String()
}
