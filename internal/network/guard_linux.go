package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
)

// The routing guard needs no netfilter, so it holds when somebody flushes all
// rules: packets from a bridge are first looked up in a table of their own,
// which prohibits what no tenant reaches. What it does not name falls through
// to the host's tables. The firewall marks the packets to private ranges that
// a tenant's policy allows; for these the guard steps aside.

// guardPriority is before the main table (32766) and after the local one (0),
// so that the gateway itself stays reachable.
const guardPriority = 50

func (l *links) guardRule(bridge string) *netlink.Rule {
	mask := uint32(firewall.Mark)
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = unix.AF_INET, guardPriority, int(l.cfg.group())
	rule.IifName, rule.Mark, rule.Mask = bridge, 0, &mask
	return rule
}

func (l *links) guardRoutes() []netlink.Route {
	var routes []netlink.Route
	for _, p := range guarded(l.cfg.Subnet) {
		routes = append(routes, netlink.Route{Table: int(l.cfg.group()), Type: unix.RTN_PROHIBIT, Dst: ipNet(p), Protocol: unix.RTPROT_STATIC})
	}
	return routes
}

func guarded(subnet netip.Prefix) []netip.Prefix {
	list := []netip.Prefix{subnet.Masked()}
	for _, p := range slices.Concat(firewall.Reserved, firewall.Private) {
		if p != subnet.Masked() {
			list = append(list, p)
		}
	}
	return list
}

// ensureGuard makes the guard for one bridge.
func (l *links) ensureGuard(bridge string) error {
	for _, r := range l.guardRoutes() {
		if err := l.RouteReplace(&r); err != nil {
			return fmt.Errorf("cannot guard %s: %w", r.Dst, err)
		}
	}
	if err := l.RuleAdd(l.guardRule(bridge)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot add the routing guard: %w", err)
	}
	return nil
}

// removeGuard takes the guard of one bridge away.
func (l *links) removeGuard(bridge string) error {
	if err := l.RuleDel(l.guardRule(bridge)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove the routing guard of %s: %w", bridge, err)
	}
	return nil
}

// removeGuardRoutes empties the guard's table.
func (l *links) removeGuardRoutes() error {
	routes, err := l.table(int(l.cfg.group()))
	if err != nil {
		return fmt.Errorf("cannot list the routing guard: %w", err)
	}
	for _, r := range routes {
		if err := l.RouteDel(&r); err != nil && !gone(err) {
			return fmt.Errorf("cannot remove the guard of %s: %w", r.Dst, err)
		}
	}
	return nil
}
