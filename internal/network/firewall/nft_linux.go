package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// NFT loads the rules with nftables, by its command: a transaction of any
// size over several tables is one text.
//
// The text is rendered here and not by sigs.k8s.io/knftables. That library
// would make the same text from objects and run the same command, while most
// of this backend is reading rules back to compare them, and of a rule it
// reads no more than handle and comment. google/nftables needs no command, but
// returned ENOBUFS for changes that it had committed.
type NFT struct{}

// Name is "nft".
func (NFT) Name() string { return "nft" }

// apply is one transaction: everything of the script or nothing.
func (n NFT) apply(ctx context.Context, script string, flags ...string) error {
	_, err := n.run(ctx, script, append(flags, "-f", "-")...)
	return err
}

// run calls nft, in the language that absent knows.
func (NFT) run(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := run.Run(ctx, run.Command{
		Name: "nft", Args: args, Env: append(os.Environ(), "LC_ALL=C"),
		Stdin: strings.NewReader(stdin), Stdout: &out,
	})
	return out.Bytes(), err
}

// Check has the kernel try the rules without keeping them.
func (n NFT) Check(ctx context.Context, b Base) error {
	return n.apply(ctx, b.clear()+b.base(), "--check")
}

// ErrOtherVersion says that the tables hold rules that can't be changed in
// place. Replacing everything does away with them.
var ErrOtherVersion = errors.New("the firewall rules are those of another version of mvm; reconciling replaces them")

// Add is one transaction in the usual case, in which the base rules stand and
// the tenant is new or unchanged.
func (n NFT) Add(ctx context.Context, b Base, t Tenant) error {
	if n.apply(ctx, b.assert()+b.tenantAdd(t, false)) == nil {
		return nil
	}
	// Other base rules, or none, or another policy of the tenant.
	frames, packets, err := n.list(ctx, b)
	if err != nil {
		return err
	}
	base := b.base() + b.leftovers("bridge", frames) + b.leftovers("inet", packets) + b.addStamp()
	if n.apply(ctx, base+b.tenantAdd(t, false)) == nil {
		return nil
	}
	err = n.apply(ctx, base+b.tenantAdd(t, true))
	if err != nil && len(packets.objects) > 0 && !slices.Contains(packets.chains(), b.stamp()) {
		err = fmt.Errorf("%w: %w", ErrOtherVersion, err)
	}
	return err
}

// assert fails a transaction where other base rules stand than b's.
func (b Base) assert() string { return fmt.Sprintf("flush chain inet %s %s\n", b.Table, b.stamp()) }

func (b Base) addStamp() string { return fmt.Sprintf("add chain inet %s %s\n", b.Table, b.stamp()) }

// leftovers renders the removal of chains that are neither the base rules' nor
// a tenant's.
func (b Base) leftovers(family string, there *table) string {
	var s script
	base := b.base()
	for _, name := range there.chains() {
		head := fmt.Sprintf("add chain %s %s %s", family, b.Table, name)
		if !strings.Contains(base, head+"\n") && !strings.Contains(base, head+" {") && !strings.HasPrefix(name, allowPrefix) && name != b.stamp() {
			s.line("flush chain %s %s %s", family, b.Table, name)
			s.line("delete chain %s %s %s", family, b.Table, name)
		}
	}
	return s.String()
}

// Remove takes the tenant out, with its counters.
func (n NFT) Remove(ctx context.Context, b Base, t Tenant) error {
	parts := b.tenantRemove(t)
	err := n.apply(ctx, strings.Join(parts, ""))
	if err == nil {
		return nil
	}
	// Only the first part fails where all is removed already: if the others do
	// not, it was that.
	if absent(err) && n.apply(ctx, strings.Join(parts[1:], "")) == nil {
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
	frames, packets, err := n.list(ctx, b)
	if err != nil {
		return err
	}
	if n.apply(ctx, b.replacement(frames, packets, tenants)) == nil {
		diffs, err := n.Diff(ctx, b, tenants)
		if err != nil || !slices.ContainsFunc(diffs, Difference.Base) {
			return err
		}
	}
	return n.apply(ctx, b.clear()+b.replacement(&table{}, &table{}, tenants))
}

// replacement renders everything, given what is there.
func (b Base) replacement(frames, packets *table, tenants []Tenant) string {
	var s script
	s.WriteString(b.base())
	s.line("flush map inet %s egress", b.Table)
	s.line("flush set bridge %s ident", b.Table)
	wanted := map[string]bool{}
	for _, t := range tenants {
		wanted[allowChain(t.IP)] = t.Policy.Mode == Allow
		s.WriteString(b.tenantAdd(t, false))
	}
	for _, name := range packets.chains() {
		if strings.HasPrefix(name, allowPrefix) && !wanted[name] {
			s.dropChain(b.Table, name)
		}
	}
	s.WriteString(b.leftovers("bridge", frames))
	s.WriteString(b.leftovers("inet", packets))
	s.WriteString(b.addStamp())
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
