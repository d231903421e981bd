package network

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
)

// observation is what the kernel has of this scope's links, read at once.
type observation struct {
	bridges   map[string]netlink.Link       // ours
	taps      map[string]netlink.Link       // ours
	strangers []netlink.Link                // ports of our bridges that are not ours
	flags     map[int]map[int]byte          // port flags by link
	fdb       map[int][]netlink.Neigh       // static forwarding entries by port
	neigh     map[int][]netlink.Neigh       // permanent neighbours by bridge
	addrs     map[int][]netip.Prefix        // by link
	routes    map[int]map[netip.Prefix]bool // /32 routes by bridge
	guard     map[netip.Prefix]bool         // routes of the guard's table
	rules     map[string]int                // guard rules by bridge, counted
}

func (l *links) observe() (*observation, error) {
	o := &observation{
		bridges: map[string]netlink.Link{}, taps: map[string]netlink.Link{},
		fdb: map[int][]netlink.Neigh{}, neigh: map[int][]netlink.Neigh{}, addrs: map[int][]netip.Prefix{},
		routes: map[int]map[netip.Prefix]bool{}, guard: map[netip.Prefix]bool{}, rules: map[string]int{},
	}
	for _, read := range []func(*observation) error{l.observeLinks, l.observePorts, l.observeAddrs, l.observeRouting} {
		if err := read(o); err != nil {
			return nil, fmt.Errorf("cannot observe the tenants' network: %w", err)
		}
	}
	return o, nil
}

func (l *links) observeLinks(o *observation) error {
	list, err := firewall.Whole(l.LinkList)
	if err != nil {
		return err
	}
	own := map[int]bool{}
	for _, link := range list {
		name := link.Attrs().Name
		switch {
		case !l.owns(link):
		case link.Type() == "bridge":
			o.bridges[name] = link
			own[link.Attrs().Index] = true
		default:
			o.taps[name] = link
		}
	}
	for _, link := range list {
		if own[link.Attrs().MasterIndex] && !l.owns(link) {
			o.strangers = append(o.strangers, link)
		}
	}
	return nil
}

func (l *links) observePorts(o *observation) (err error) {
	if o.flags, err = listPortFlags(); err != nil {
		return err
	}
	fdb, err := firewall.Whole(func() ([]netlink.Neigh, error) { return l.NeighList(0, unix.AF_BRIDGE) })
	if err != nil {
		return err
	}
	for _, n := range fdb {
		if n.State&netlink.NUD_NOARP != 0 && n.MasterIndex != 0 {
			o.fdb[n.LinkIndex] = append(o.fdb[n.LinkIndex], n)
		}
	}
	neigh, err := firewall.Whole(func() ([]netlink.Neigh, error) { return l.NeighList(0, netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	for _, n := range neigh {
		if n.State&netlink.NUD_PERMANENT != 0 {
			o.neigh[n.LinkIndex] = append(o.neigh[n.LinkIndex], n)
		}
	}
	return nil
}

func (l *links) observeAddrs(o *observation) error {
	addrs, err := firewall.Whole(func() ([]netlink.Addr, error) { return l.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	for _, a := range addrs {
		o.addrs[a.LinkIndex] = append(o.addrs[a.LinkIndex], prefix(a.IPNet))
	}
	return nil
}

// table lists the IPv4 routes of a routing table.
func (l *links) table(number int) ([]netlink.Route, error) {
	return firewall.Whole(func() ([]netlink.Route, error) {
		return l.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: number}, netlink.RT_FILTER_TABLE)
	})
}

func (l *links) observeRouting(o *observation) error {
	main, err := l.table(unix.RT_TABLE_MAIN)
	if err != nil {
		return err
	}
	for _, r := range main {
		if r.Dst == nil || prefix(r.Dst).Bits() != 32 {
			continue
		}
		if o.routes[r.LinkIndex] == nil {
			o.routes[r.LinkIndex] = map[netip.Prefix]bool{}
		}
		o.routes[r.LinkIndex][prefix(r.Dst)] = true
	}
	guard, err := l.table(int(l.cfg.group()))
	if err != nil {
		return err
	}
	for _, r := range guard {
		if r.Dst != nil && r.Type == unix.RTN_PROHIBIT {
			o.guard[prefix(r.Dst)] = true
		}
	}
	rules, err := firewall.Whole(func() ([]netlink.Rule, error) { return l.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Table == int(l.cfg.group()) {
			o.rules[r.IifName]++
		}
	}
	return nil
}

// listPortFlags reads the flags of all bridge ports.
func listPortFlags() (map[int]map[int]byte, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	msgs, err := firewall.Whole(func() ([][]byte, error) { return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK) })
	if err != nil {
		return nil, err
	}
	out := map[int]map[int]byte{}
	for _, m := range msgs {
		info := nl.DeserializeIfInfomsg(m)
		attrs, err := nl.ParseRouteAttr(m[info.Len():])
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			if a.Attr.Type != unix.IFLA_PROTINFO|unix.NLA_F_NESTED {
				continue
			}
			nested, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return nil, err
			}
			flags := map[int]byte{}
			for _, n := range nested {
				if len(n.Value) == 1 {
					flags[int(n.Attr.Type)] = n.Value[0]
				}
			}
			out[int(info.Index)] = flags
		}
	}
	return out, nil
}

// ready says whether the kernel has noticed that somebody holds the port's
// device. It does so a moment after the device was opened; until then frames
// are lost.
func ready(tap string) bool {
	link, err := netlink.LinkByName(tap)
	if err != nil || link.Attrs().OperState != netlink.OperUp {
		return false
	}
	bridge, err := netlink.LinkByIndex(link.Attrs().MasterIndex)
	if err != nil || bridge.Attrs().OperState != netlink.OperUp {
		return false
	}
	const forwarding = 3 // BR_STATE_FORWARDING
	flags, err := listPortFlags()
	return err == nil && flags[link.Attrs().Index][unix.IFLA_BRPORT_STATE] == forwarding
}

// bridgeFaults names what is wrong with a bridge.
func (l *links) bridgeFaults(o *observation, name string) []string {
	link := o.bridges[name]
	if link == nil {
		return []string{"it is missing"}
	}
	var faults []string
	attrs := link.Attrs()
	if attrs.HardwareAddr.String() != l.cfg.gatewayMAC().String() {
		faults = append(faults, fmt.Sprintf("its MAC is %s instead of %s", attrs.HardwareAddr, l.cfg.gatewayMAC()))
	}
	if want := l.bridgePrefix(name); !slices.Contains(o.addrs[attrs.Index], want) {
		faults = append(faults, fmt.Sprintf("it lacks the address %s", want))
	}
	for _, p := range o.addrs[attrs.Index] {
		if p != l.bridgePrefix(name) {
			faults = append(faults, fmt.Sprintf("it has the address %s besides", p))
		}
	}
	faults = append(faults, sysctlFaults(bridgeSysctls, name)...)
	for _, p := range guarded(l.cfg.Subnet) {
		if !o.guard[p] {
			faults = append(faults, fmt.Sprintf("the routing guard lacks %s", p))
		}
	}
	if o.rules[name] == 0 {
		faults = append(faults, "the routing guard's rule is missing")
	}
	if attrs.Flags&net.FlagUp == 0 {
		faults = append(faults, "it is down")
	}
	return faults
}

// sysctlFaults names those that differ for the link.
func sysctlFaults(wanted []sysctl, link string) (faults []string) {
	for _, s := range wanted {
		key := fmt.Sprintf(s.key, link)
		if got, err := os.ReadFile(filepath.Join(netSysctls, key)); err == nil && strings.TrimSpace(string(got)) != s.value {
			faults = append(faults, fmt.Sprintf("sysctl net/%s is %s instead of %s", key, strings.TrimSpace(string(got)), s.value))
		}
	}
	return faults
}

// tapFaults names what is wrong with an endpoint's TAP.
func (l *links) tapFaults(o *observation, ep Endpoint) []string {
	link := o.taps[ep.TAP]
	if link == nil {
		return []string{"it is missing"}
	}
	attrs := link.Attrs()
	tun, ok := link.(*netlink.Tuntap)
	if !ok {
		return []string{"it is a " + link.Type() + " device"}
	}
	faults := sysctlFaults(tapSysctls, ep.TAP)
	if attrs.RawFlags&unix.IFF_NOARP == 0 {
		faults = append(faults, "it takes part in ARP")
	}
	if tun.Owner != uint32(ep.UID) || tun.Group != uint32(ep.GID) {
		faults = append(faults, fmt.Sprintf("it belongs to uid %d, gid %d instead of %d, %d", tun.Owner, tun.Group, ep.UID, ep.GID))
	}
	bridge := o.bridges[l.cfg.BridgeOf(ep.IP)]
	if bridge == nil || attrs.MasterIndex != bridge.Attrs().Index {
		return append(faults, "it is not on bridge "+l.cfg.BridgeOf(ep.IP))
	}
	for _, f := range portFlags {
		if got := o.flags[attrs.Index][f.attr]; got != f.value {
			faults = append(faults, fmt.Sprintf("port flag %s is %d instead of %d", f.name, got, f.value))
		}
	}
	index := bridge.Attrs().Index
	faults = append(faults, forwardingFaults(o.fdb[attrs.Index], ep.MAC)...)
	sameMAC := func(n netlink.Neigh) bool { return slices.Equal(n.HardwareAddr, ep.MAC) }
	if !slices.ContainsFunc(o.neigh[index], func(n netlink.Neigh) bool { return sameMAC(n) && isAddr(n.IP, ep.IP) }) {
		faults = append(faults, "its permanent neighbour entry is missing")
	}
	if l.tenantRoute(bridge, ep.IP) != nil && !o.routes[index][netip.PrefixFrom(ep.IP, 32)] {
		faults = append(faults, "the route to "+ep.IP.String()+" is missing")
	}
	if attrs.Flags&net.FlagUp == 0 {
		faults = append(faults, "it is down")
	}
	return faults
}

// forwardingFaults names what is wrong with a TAP's static forwarding entries:
// the one for its MAC address has to be there, and no other's. A kernel whose
// bridges know VLANs has it once more for the VLAN that each port begins in.
func forwardingFaults(list []netlink.Neigh, mac net.HardwareAddr) (faults []string) {
	sticky := func(n netlink.Neigh) bool { return slices.Equal(n.HardwareAddr, mac) && n.Flags&ntfSticky != 0 }
	if !slices.ContainsFunc(list, sticky) {
		faults = append(faults, "its static forwarding entry is missing")
	}
	for _, n := range foreign(list, mac) {
		fault := fmt.Sprintf("it has a static forwarding entry for %s", n.HardwareAddr)
		if !slices.Contains(faults, fault) {
			faults = append(faults, fault)
		}
	}
	return faults
}

// foreign are the forwarding entries that are not for mac.
func foreign(list []netlink.Neigh, mac net.HardwareAddr) []netlink.Neigh {
	return slices.DeleteFunc(slices.Clone(list), func(n netlink.Neigh) bool { return slices.Equal(n.HardwareAddr, mac) })
}

// staleEntries are permanent neighbours and routes on our bridges that belong
// to no endpoint.
func (l *links) staleEntries(o *observation, eps []Endpoint) (neigh []netlink.Neigh, routes []netlink.Route) {
	wanted := map[netip.Addr]bool{}
	for _, ep := range eps {
		wanted[ep.IP] = true
	}
	for _, name := range slices.Sorted(maps.Keys(o.bridges)) {
		index := o.bridges[name].Attrs().Index
		for _, n := range o.neigh[index] {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && !wanted[ip.Unmap()] {
				neigh = append(neigh, n)
			}
		}
		for p := range o.routes[index] {
			if !wanted[p.Addr()] {
				routes = append(routes, netlink.Route{LinkIndex: index, Dst: ipNet(p)})
			}
		}
	}
	return neigh, routes
}
