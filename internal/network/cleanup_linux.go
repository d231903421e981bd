package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
)

// Remains is what CleanUp would remove of this scope.
func Remains(ctx context.Context, cfg Config) ([]Change, error) {
	l, r, err := openRemains(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot look for the tenants' network: %w", err)
	}
	defer l.Close()
	return slices.Concat(r.links, r.guard, r.rules), nil
}

// CleanUp removes everything of this scope and returns what there was. It
// needs nothing but the configuration.
func CleanUp(ctx context.Context, cfg Config) (changes []Change, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot remove the tenants' network: %w", err)
		}
	}()
	l, r, err := openRemains(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if len(r.links) > 0 {
		if err := l.removeGroup(); err != nil {
			return changes, err
		}
		changes = append(changes, r.links...)
	}
	if len(r.guard) > 0 {
		if err := l.removeWholeGuard(r.seen); err != nil {
			return changes, err
		}
		changes = append(changes, r.guard...)
	}
	if err := firewall.Withdraw(ctx, r.base, cfg.bridges()); err != nil {
		return changes, fmt.Errorf("cannot take back what was changed in the host's other firewalls: %w", err)
	}
	for n, b := range r.backends {
		if err := b.Clear(ctx, r.base); err != nil {
			return changes, fmt.Errorf("cannot remove the firewall rules: %w", err)
		}
		changes = append(changes, r.rules[n])
	}
	if err := cutSubnetFlows(cfg.Subnet.Masked()); err != nil {
		return changes, fmt.Errorf("cannot cut the tenants' connections: %w", err)
	}
	return changes, nil
}

// remains is what there is of a scope, in the order in which it goes.
type remains struct {
	links, guard, rules []Change
	seen                *observation
	base                firewall.Base
	backends            []firewall.Backend // one for each of rules
}

func openRemains(ctx context.Context, cfg Config) (*links, remains, error) {
	if err := cfg.Validate(); err != nil {
		return nil, remains{}, err
	}
	l, err := openLinks(cfg)
	if err != nil {
		return nil, remains{}, err
	}
	r, err := l.remains(ctx)
	if err != nil {
		l.Close()
	}
	return l, r, err
}

func (l *links) remains(ctx context.Context) (r remains, err error) {
	if r.seen, err = l.observe(); err != nil {
		return r, err
	}
	if r.base, err = l.cfg.base(); err != nil {
		return r, err
	}
	removal := func(object string) Change { return Change{Object: object, Action: "remove"} }
	for _, name := range slices.Sorted(maps.Keys(r.seen.taps)) {
		r.links = append(r.links, removal("tap "+name))
	}
	for _, name := range slices.Sorted(maps.Keys(r.seen.bridges)) {
		r.links = append(r.links, removal("bridge "+name))
	}
	if len(r.seen.rules)+len(r.seen.guard) > 0 {
		r.guard = append(r.guard, removal("routing guard"))
	}
	for _, b := range l.cfg.backends() {
		present, err := b.Present(ctx, r.base)
		if err != nil {
			return r, fmt.Errorf("cannot look for the firewall rules: %w", err)
		}
		if present {
			r.backends, r.rules = append(r.backends, b), append(r.rules, removal("firewall rules ("+b.Name()+")"))
		}
	}
	return r, nil
}

// removeGroup removes all links of the group at once: one after the other, the
// kernel takes a while for each.
func (l *links) removeGroup() error {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(l.cfg.group())))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("cannot remove the links: %w", err)
	}
	return nil
}

func (l *links) removeWholeGuard(seen *observation) error {
	for _, bridge := range slices.Sorted(maps.Keys(seen.rules)) {
		for range seen.rules[bridge] {
			if err := l.removeGuard(bridge); err != nil {
				return err
			}
		}
	}
	return l.removeGuardRoutes()
}
