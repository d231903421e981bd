package firewall

import (
	"context"
	"errors"
	"fmt"
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
	return packets.stamps()
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

// Replace loads everything anew in one transaction. Counters start at zero.
func (n NFT) Replace(ctx context.Context, b Base, tenants []Tenant) error {
	return n.apply(ctx, b.replacement(tenants))
}

func (b Base) replacement(tenants []Tenant) string {
	var s script
	s.WriteString(b.clear())
	s.WriteString(b.base())
	s.WriteString(b.stampOver(nil))
	for _, t := range tenants {
		s.WriteString(b.tenantAdd(t, false))
	}
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
