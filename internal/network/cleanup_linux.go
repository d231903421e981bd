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

// CleanUp removes everything of this scope and returns what there was. It
// needs nothing but the configuration.
func CleanUp(ctx context.Context, cfg Config) (changes []Change, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot remove the tenants' network: %w", err)
		}
	}()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l, err := openLinks(cfg)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	seen, err := l.observe()
	if err != nil {
		return nil, err
	}
	base, err := cfg.base()
	if err != nil {
		return nil, err
	}
	gone := func(object string) { changes = append(changes, Change{Object: object, Action: "remove"}) }

	if len(seen.taps)+len(seen.bridges) > 0 {
		if err := l.removeGroup(); err != nil {
			return changes, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen.taps)) {
		gone("tap " + name)
	}
	for _, name := range slices.Sorted(maps.Keys(seen.bridges)) {
		gone("bridge " + name)
	}
	if len(seen.rules)+len(seen.guard) > 0 {
		if err := l.removeWholeGuard(seen); err != nil {
			return changes, err
		}
		gone("routing guard")
	}
	if err := firewall.Withdraw(ctx, base, cfg.bridges()); err != nil {
		return changes, fmt.Errorf("cannot take back what was changed in the host's other firewalls: %w", err)
	}
	for _, b := range cfg.backends() {
		present, err := b.Present(ctx, base)
		if err == nil && present {
			err = b.Clear(ctx, base)
			gone("firewall rules (" + b.Name() + ")")
		}
		if err != nil {
			return changes, fmt.Errorf("cannot remove the firewall rules: %w", err)
		}
	}
	if err := cutSubnetFlows(cfg.Subnet.Masked()); err != nil {
		return changes, fmt.Errorf("cannot cut the tenants' connections: %w", err)
	}
	return changes, nil
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
