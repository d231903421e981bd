package network

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
)

// step is one change and how it is made.
type step struct {
	Change
	do func(context.Context) error
}

// plan collects the steps from what is there to what should be.
type plan struct {
	links *links
	cfg   Config
	eps   []Endpoint
	seen  *observation
	steps []step
}

func (p *plan) add(object, action, detail string, do func(context.Context) error) {
	p.steps = append(p.steps, step{Change{object, action, detail}, do})
}

// Check compares the host with what it should be for these endpoints and
// changes nothing. It returns what Reconcile would do.
func Check(ctx context.Context, cfg Config, eps []Endpoint) ([]Change, error) {
	return reconcile(ctx, cfg, eps, true)
}

// Reconcile makes the host what it should be for exactly these endpoints: what
// is missing or different is set right, what belongs to nobody is removed. It
// returns what it did, also when it fails midway.
func Reconcile(ctx context.Context, cfg Config, eps []Endpoint) ([]Change, error) {
	return reconcile(ctx, cfg, eps, false)
}

func reconcile(ctx context.Context, cfg Config, eps []Endpoint, dryRun bool) (changes []Change, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot reconcile the tenants' network: %w", err)
		}
	}()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for _, ep := range eps {
		if err := cfg.validate(ep); err != nil {
			return nil, fmt.Errorf("tap %s: %w", ep.TAP, err)
		}
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
	eps = slices.DeleteFunc(slices.Clone(eps), func(ep Endpoint) bool { return ep.Passing && seen.taps[ep.TAP] == nil })
	p := &plan{links: l, cfg: cfg, eps: eps, seen: seen}
	p.orphans()
	p.thieves()
	p.bridges()
	p.strayGuards()
	if err := p.forwarding(); err != nil {
		return nil, err
	}
	if err := p.rules(ctx); err != nil {
		return nil, err
	}
	if err := p.obstacles(ctx); err != nil {
		return nil, err
	}
	p.taps()
	for _, s := range p.steps {
		if !dryRun {
			if err := s.do(ctx); err != nil {
				return changes, fmt.Errorf("cannot %s: %w", s.Change, err)
			}
		}
		changes = append(changes, s.Change)
	}
	return changes, nil
}

// orphans removes what no endpoint has.
func (p *plan) orphans() {
	wanted := map[string]bool{}
	for _, ep := range p.eps {
		wanted[ep.TAP] = true
	}
	for _, name := range slices.Sorted(maps.Keys(p.seen.taps)) {
		if link := p.seen.taps[name]; !wanted[name] {
			p.add("tap "+name, "remove", "it belongs to no running tenant", func(context.Context) error { return p.removeLink(link) })
		}
	}
	for _, link := range p.seen.strangers {
		p.add("port "+link.Attrs().Name, "remove", "it is on a tenants' bridge and not mvm's", func(context.Context) error { return p.links.LinkSetNoMaster(link) })
	}
	neigh, routes := p.links.staleEntries(p.seen, p.eps)
	for _, n := range neigh {
		p.add("neighbour "+n.IP.String(), "remove", "it belongs to no running tenant", func(context.Context) error {
			return unlessGone(p.links.NeighDel(&n))
		})
	}
	for _, r := range routes {
		p.add("route "+r.Dst.String(), "remove", "it belongs to no running tenant", func(context.Context) error {
			return unlessGone(p.links.RouteDel(&r))
		})
	}
}

// thieves removes TAPs to which their VMM has given a tenant's MAC address. It
// needs no privilege for that, and the bridge then takes the port for the
// address's own. With the device, the VMM loses its network.
func (p *plan) thieves() {
	tenants := map[string]bool{}
	for _, ep := range p.eps {
		tenants[ep.MAC.String()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(p.seen.taps)) {
		link := p.seen.taps[name]
		if !tenants[link.Attrs().HardwareAddr.String()] {
			continue
		}
		p.add("tap "+name, "remove", "its VMM has given it the MAC address of a tenant", func(context.Context) error { return p.removeLink(link) })
		delete(p.seen.taps, name) // so that it is made anew
	}
}

func (p *plan) removeLink(link netlink.Link) error { return unlessGone(p.links.LinkDel(link)) }

func unlessGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// needed are the bridges that the endpoints are on and those that exist.
func (p *plan) needed() []string {
	names := map[string]bool{}
	for name := range p.seen.bridges {
		names[name] = true
	}
	for _, ep := range p.eps {
		names[p.cfg.BridgeOf(ep.IP)] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (p *plan) bridges() {
	possible := p.cfg.bridges()
	for _, name := range p.needed() {
		if !slices.Contains(possible, name) {
			p.add("bridge "+name, "remove", "the configured subnet has no such bridge", func(context.Context) error { return p.removeLink(p.seen.bridges[name]) })
			continue
		}
		faults := p.links.bridgeFaults(p.seen, name)
		if len(faults) == 0 {
			continue
		}
		p.add("bridge "+name, p.action(p.seen.bridges[name]), strings.Join(faults, "; "), func(context.Context) error { return p.setBridge(name) })
	}
}

// strayGuards removes the routing guard of bridges that are gone.
func (p *plan) strayGuards() {
	needed := p.needed()
	for _, bridge := range slices.Sorted(maps.Keys(p.seen.rules)) {
		extra := p.seen.rules[bridge]
		if slices.Contains(needed, bridge) {
			extra--
		}
		for range extra {
			p.add("routing guard of "+bridge, "remove", "it guards nothing", func(context.Context) error { return p.links.removeGuard(bridge) })
		}
	}
	if len(needed) == 0 && len(p.seen.guard) > 0 {
		p.add("routing guard", "remove", "it guards nothing", func(context.Context) error { return p.links.removeGuardRoutes() })
	}
}

func (p *plan) action(link netlink.Link) string {
	if link == nil {
		return "add"
	}
	return "set"
}

func (p *plan) setBridge(name string) error {
	if link := p.seen.bridges[name]; link != nil {
		for _, a := range p.seen.addrs[link.Attrs().Index] {
			if a == p.links.bridgePrefix(name) {
				continue
			}
			if err := p.links.AddrDel(link, &netlink.Addr{IPNet: ipNet(a)}); err != nil && err != unix.EADDRNOTAVAIL {
				return fmt.Errorf("cannot remove address %s: %w", a, err)
			}
		}
	} else {
		if _, err := p.links.ownBridge(name); err != nil {
			return err
		}
		if err := p.links.checkSubnetFree(); err != nil {
			return err
		}
	}
	link, err := p.links.configureBridge(name)
	if err != nil {
		return err
	}
	return p.links.LinkSetUp(link)
}

// forwarding is needed as soon as there are tenants.
func (p *plan) forwarding() error {
	if len(p.needed()) == 0 {
		return nil
	}
	on, err := forwarding()
	if err != nil || on {
		return err
	}
	p.steps = append(p.steps, step{forwardingChange, func(context.Context) error {
		_, err := ensureForwarding()
		return err
	}})
	return nil
}

// fewDifferences is up to how many tenants' rules are set right one by one.
const fewDifferences = 20

// rules compares the firewall. Differences of single tenants are set right one
// by one; other base rules, or many tenants, in one transaction.
func (p *plan) rules(ctx context.Context) error {
	base, err := p.cfg.base()
	if err != nil {
		return err
	}
	if len(p.needed()) == 0 {
		return p.noRules(ctx, base, "", "there is no tenants' bridge")
	}
	backend, err := p.cfg.backend(ctx, base)
	if err != nil {
		return err
	}
	if err := p.noRules(ctx, base, backend.Name(), backend.Name()+" is used instead"); err != nil {
		return err
	}
	var tenants []firewall.Tenant
	for _, ep := range p.eps {
		tenants = append(tenants, ep.tenant())
	}
	diffs, err := backend.Diff(ctx, base, tenants)
	if err != nil {
		return fmt.Errorf("cannot compare the firewall rules: %w", err)
	}
	replace := func(ctx context.Context) error {
		if err := backend.Replace(ctx, base, tenants); err != nil {
			return err
		}
		return cutForbiddenFlows(base.Gateway, base.DNS, p.eps...)
	}
	if slices.ContainsFunc(diffs, firewall.Difference.Base) {
		var what []string
		for _, d := range diffs {
			if d.Base() {
				what = append(what, d.What)
			}
		}
		p.add("firewall rules ("+backend.Name()+")", "set", strings.Join(what, "; "), replace)
		return nil
	}
	if len(diffs) > fewDifferences {
		p.add("firewall rules ("+backend.Name()+")", "set", fmt.Sprintf("they differ for %d tenants", len(diffs)), replace)
		return nil
	}
	wanted := map[string]Endpoint{}
	for _, ep := range p.eps {
		wanted[ep.TAP+ep.MAC.String()+ep.IP.String()] = ep
	}
	for _, d := range diffs {
		object := "rules of " + d.Tenant.TAP
		t := d.Tenant
		if ep, ok := wanted[t.TAP+t.MAC.String()+t.IP.String()]; ok {
			p.add(object, "set", d.What, func(ctx context.Context) error { return Update(ctx, p.cfg, ep) })
			continue
		}
		p.add(object, "remove", d.What, func(ctx context.Context) error {
			if err := backend.Remove(ctx, base, t); err != nil {
				return err
			}
			return cutAllFlows(t.IP)
		})
	}
	return nil
}

// noRules clears the rules of every backend but one.
func (p *plan) noRules(ctx context.Context, base firewall.Base, except, why string) error {
	for _, b := range p.cfg.backends() {
		if b.Name() == except {
			continue
		}
		present, err := b.Present(ctx, base)
		if err != nil {
			return err
		}
		if present {
			p.add("firewall rules ("+b.Name()+")", "remove", why, func(ctx context.Context) error { return b.Clear(ctx, base) })
		}
	}
	return nil
}

// obstacles are what the host's other firewalls put in the tenants' way.
func (p *plan) obstacles(ctx context.Context) error {
	bridges := p.needed()
	if len(bridges) == 0 {
		return nil
	}
	base, err := p.cfg.base()
	if err != nil {
		return err
	}
	found, err := firewall.Obstacles(ctx, base, bridges)
	if err != nil {
		return fmt.Errorf("cannot look at the host's other firewalls: %w", err)
	}
	for _, o := range found {
		p.add("other firewalls", "set", o.What, o.Clear)
	}
	return nil
}

// taps comes last: a TAP is brought up only behind its rules.
func (p *plan) taps() {
	for _, ep := range p.eps {
		faults := p.links.tapFaults(p.seen, ep)
		if len(faults) == 0 {
			continue
		}
		p.add("tap "+ep.TAP, p.action(p.seen.taps[ep.TAP]), strings.Join(faults, "; "), func(context.Context) error {
			bridge, err := p.links.LinkByName(p.cfg.BridgeOf(ep.IP))
			if err != nil {
				return err
			}
			tap, _, err := p.links.ensureTAP(ep)
			if err != nil {
				return err
			}
			for _, n := range foreign(p.seen.fdb[tap.Attrs().Index], ep.MAC) {
				n.Flags |= netlink.NTF_MASTER
				if err := unlessGone(p.links.NeighDel(&n)); err != nil {
					return fmt.Errorf("cannot remove the static entry %s: %w", &n, err)
				}
			}
			return p.links.connectTAP(tap, bridge, ep)
		})
	}
}
