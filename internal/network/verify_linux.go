package network

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/network/ipam"
	"github.com/auser/mvm/internal/network/probe"
	"github.com/auser/mvm/internal/undo"
)

// ProbeResult is what became of one attack.
type ProbeResult = probe.Result

// ErrVerifying says that the probe ports are in use.
var ErrVerifying = errors.New("another verification is under way")

// Verify proves by packets what a tenant with the endpoint's policy can't do.
// It puts two probe ports next to the tenants, with addresses that no tenant
// gets; one has the endpoint's policy and sends the frames that a hostile guest
// would send, and the host is watched for where they come out. The tenant
// itself is not disturbed and need not run. Frames that were not held back
// would go to documentation addresses (RFC 5737) and private ones.
func Verify(ctx context.Context, cfg Config, ep Endpoint) (results []ProbeResult, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot verify the isolation: %w", err)
		}
	}()
	if err := cfg.validate(ep); err != nil {
		return nil, err
	}
	attacker, victim := cfg.probe(0, ep.Policy), cfg.probe(1, Policy{Mode: Open})
	l, err := openLinks(cfg)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	for _, p := range []Endpoint{attacker, victim} {
		if link, err := l.link(p.TAP); err != nil {
			return nil, err
		} else if link != nil && link.Attrs().OperState == netlink.OperUp {
			return nil, ErrVerifying
		}
	}
	var remove undo.Stack // also after success: these ports are never to stay
	defer remove.Run(ctx, &err)
	var taps []*probe.TAP
	for _, p := range []Endpoint{attacker, victim} {
		remove.Push("remove the probe port", func(ctx context.Context) error { return Detach(ctx, cfg, p) })
		if _, err := Attach(ctx, cfg, p); err != nil {
			return nil, err
		}
		tap, err := probe.OpenTAP(p.TAP)
		if err != nil {
			return nil, err
		}
		remove.Push("close the probe port", func(context.Context) error { return tap.Close() })
		taps = append(taps, tap)
	}
	if err := awaitReady(ctx, attacker.TAP, victim.TAP); err != nil {
		return nil, err
	}
	return runAttacks(ctx, l, attacker, victim, taps[0], taps[1])
}

// probe is the n-th probe port. Its addresses are among those that are never
// leased.
func (c Config) probe(n int, policy Policy) Endpoint {
	sum := sha256.Sum256(fmt.Appendf(nil, "mvm/probe\x00%s\x00%d", c.Table, n))
	return Endpoint{
		TAP: fmt.Sprintf("probe%d-%06x", n, c.group()&0xffffff), MAC: net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]},
		IP: ipam.Reserved(c.Subnet, n), Policy: policy,
	}
}

func awaitReady(ctx context.Context, taps ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, tap := range taps {
		for !ready(tap) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("port %s does not come up: %w", tap, ctx.Err())
			case <-time.After(5 * time.Millisecond): // nothing tells when it is
			}
		}
	}
	return nil
}

func runAttacks(ctx context.Context, l *links, attacker, victim Endpoint, tap, victimTAP *probe.TAP) ([]ProbeResult, error) {
	places, err := l.places(attacker.TAP, victim.TAP)
	if err != nil {
		return nil, err
	}
	watch, err := probe.Watch(func(i int) probe.Place { return places[i] })
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { watch.Run(watching); close(done) }()
	defer func() { stop(); <-done }()
	scene, err := l.scene(attacker, victim, watch)
	if err != nil {
		return nil, err
	}
	scene.VictimSends = victimTAP.Send
	return probe.Run(ctx, scene, tap, watch, probe.Attacks())
}

// places tells interfaces apart: the two ports, the tenants' bridges and the
// loopback, of which nothing is to be seen, and all others.
func (l *links) places(attacker, victim string) (map[int]probe.Place, error) {
	list, err := firewall.Whole(l.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	places := map[int]probe.Place{}
	for _, link := range list {
		a := link.Attrs()
		switch {
		case a.Name == attacker:
			places[a.Index] = probe.AtAttacker
		case a.Name == victim:
			places[a.Index] = probe.AtVictim
		case link.Type() == "bridge" && l.owns(link) || a.Flags&net.FlagLoopback != 0:
		default:
			places[a.Index] = probe.Out
		}
	}
	return places, nil
}

// scene finds what there is to attack on this host.
func (l *links) scene(attacker, victim Endpoint, watch *probe.Watcher) (*probe.Scene, error) {
	seen, err := l.observe()
	if err != nil {
		return nil, err
	}
	udp, tcp := watch.Ports()
	before, err := icmpRedirects()
	if err != nil {
		return nil, err
	}
	party := func(ep Endpoint) probe.Party { return probe.Party{MAC: ep.MAC, IP: ep.IP} }
	bridge := seen.bridges[l.cfg.Bridge].Attrs().Index
	s := &probe.Scene{
		Attacker: party(attacker), Victim: party(victim),
		Gateway: probe.Party{MAC: l.cfg.gatewayMAC(), IP: l.cfg.Gateway()}, Subnet: l.cfg.Subnet.Masked(),
		Outside: l.routed("198.51.100.1"), Metadata: l.routed("169.254.169.254"),
		Allowed: offAllowlist(attacker.Policy), Containers: l.containers(seen),
		UDPPort: udp, TCPPort: tcp, GatewayOpen: l.cfg.GatewayOpen,
		Neighbours: func() map[netip.Addr]string { return l.neighbourTable(bridge) },
		Learned:    func() int { return l.learned(seen.taps[attacker.TAP].Attrs().Index) },
		Redirects: func() int {
			n, err := icmpRedirects()
			if err != nil {
				return 0
			}
			return n - before
		},
		HostSends:  func(payload []byte) error { return sendDatagram(victim.IP, payload) },
		Forget:     func() error { return nil }, // its entry is permanent
		Translated: translated,
	}
	for _, list := range seen.addrs {
		for _, p := range list {
			if !p.Addr().IsLoopback() && p.Addr() != l.cfg.Gateway() {
				s.HostAddrs = append(s.HostAddrs, p.Addr())
				if p.Bits() < 31 {
					s.Broadcasts = append(s.Broadcasts, lastAddr(p))
				}
			}
		}
	}
	resolvers, err := l.cfg.resolversOrNone()
	if err != nil {
		return nil, err
	}
	for _, a := range resolvers {
		if !attacker.Policy.Permits(a, unix.IPPROTO_TCP, 80) && !slices.Contains(s.HostAddrs, a) && l.routed(a.String()).IsValid() {
			s.DNS = append(s.DNS, a)
		}
	}
	for _, a := range []string{"10.255.254.253", "172.31.254.253", "192.168.254.253", "100.127.254.253", "198.19.254.253"} {
		if addr := l.routed(a); addr.IsValid() && !attacker.Policy.Permits(addr, unix.IPPROTO_TCP, 443) {
			s.Private = append(s.Private, addr)
		}
	}
	return s, nil
}

// routed is the address if the host has a route there, else invalid.
func (l *links) routed(addr string) netip.Addr {
	a := netip.MustParseAddr(addr)
	if routes, err := l.RouteGet(a.AsSlice()); err != nil || len(routes) == 0 {
		return netip.Addr{}
	}
	return a
}

// offAllowlist is an address that the allowlist names, but not with port 80.
func offAllowlist(p Policy) netip.Addr {
	for _, r := range p.Allow {
		a := r.Prefix.Masked().Addr()
		if p.Mode == firewall.Allow && !p.Permits(a, unix.IPPROTO_TCP, 80) && !p.Permits(a, unix.IPPROTO_UDP, 80) && !p.Permits(a, unix.IPPROTO_IPIP, 0) {
			return a
		}
	}
	return netip.Addr{}
}

// containers are the neighbours that the host has met on other bridges.
func (l *links) containers(seen *observation) []netip.AddrPort {
	var out []netip.AddrPort
	list, err := l.NeighList(0, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	for _, n := range list {
		link, err := l.LinkByIndex(n.LinkIndex)
		if err != nil || link.Type() != "bridge" || l.owns(link) || n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0 {
			continue
		}
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			out = append(out, netip.AddrPortFrom(a.Unmap(), 80))
		}
	}
	return out
}

// neighbourTable is what the host knows of the bridge's neighbours.
func (l *links) neighbourTable(bridge int) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	list, err := l.NeighList(bridge, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && len(n.HardwareAddr) == 6 {
			out[a.Unmap()] = n.HardwareAddr.String()
		}
	}
	return out
}

// learned is how many addresses the bridge has learned behind a port.
func (l *links) learned(port int) int {
	list, err := l.NeighList(port, unix.AF_BRIDGE)
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range list {
		if e.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
			n++
		}
	}
	return n
}

// icmpRedirects is how many ICMP redirects the host's stack has taken in.
func icmpRedirects() (int, error) {
	data, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		return 0, fmt.Errorf("cannot read the host's ICMP counters: %w", err)
	}
	var names, values []string
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "Icmp: "); ok {
			names, values = values, strings.Fields(rest)
		}
	}
	i := slices.Index(names, "InRedirects")
	if i < 0 || i >= len(values) {
		return 0, errors.New("the host does not count ICMP redirects")
	}
	n := 0
	_, err = fmt.Sscan(values[i], &n)
	return n, err
}

// sendDatagram sends to a port that nobody listens on.
func sendDatagram(to netip.Addr, payload []byte) error {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 40000)))
	if err != nil {
		return fmt.Errorf("cannot send to the victim: %w", err)
	}
	defer conn.Close()
	_, err = conn.Write(payload)
	return err
}

// translated is what NAT has made of the sender of a UDP connection.
func translated(from netip.AddrPort) netip.AddrPort {
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		return netip.AddrPort{}
	}
	for _, f := range flows {
		if f.Forward.Protocol == unix.IPPROTO_UDP && f.Forward.SrcPort == from.Port() && isAddr(f.Forward.SrcIP, from.Addr()) {
			if a, ok := netip.AddrFromSlice(f.Reverse.DstIP); ok {
				return netip.AddrPortFrom(a.Unmap(), f.Reverse.DstPort)
			}
		}
	}
	return netip.AddrPort{}
}

// lastAddr is the broadcast address of a network.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|(1<<(32-p.Bits())-1))
	return netip.AddrFrom4(b)
}
