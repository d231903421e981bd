package network

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flowFilter selects tracked connections.
type flowFilter func(f *netlink.ConntrackFlow) bool

func (match flowFilter) MatchConntrackFlow(f *netlink.ConntrackFlow) bool { return match(f) }

func cutFlows(match flowFilter) error {
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, match)
	return err
}

// cutAllFlows ends every tracked connection from or to the address.
func cutAllFlows(ip netip.Addr) error {
	return cutFlows(func(f *netlink.ConntrackFlow) bool {
		return isAddr(f.Forward.SrcIP, ip) || isAddr(f.Forward.DstIP, ip)
	})
}

// cutSubnetFlows ends every tracked connection from or to the subnet.
func cutSubnetFlows(subnet netip.Prefix) error {
	inside := func(b []byte) bool {
		addr, ok := netip.AddrFromSlice(b)
		return ok && subnet.Contains(addr.Unmap())
	}
	return cutFlows(func(f *netlink.ConntrackFlow) bool {
		return inside(f.Forward.SrcIP) || inside(f.Forward.DstIP)
	})
}

// cutForbiddenFlows ends the endpoints' connections that their policies do not
// permit (any more). Those to the gateway and to DNS are not the policy's.
func cutForbiddenFlows(gateway netip.Addr, resolvers []netip.Addr, eps ...Endpoint) error {
	policies := map[netip.Addr]Policy{}
	for _, ep := range eps {
		policies[ep.IP] = ep.Policy
	}
	return cutFlows(func(f *netlink.ConntrackFlow) bool {
		src, _ := netip.AddrFromSlice(f.Forward.SrcIP)
		dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
		policy, ours := policies[src.Unmap()]
		if dst = dst.Unmap(); !ours || dst == gateway || f.Forward.DstPort == 53 && slices.Contains(resolvers, dst) {
			return false
		}
		return !policy.Permits(dst, f.Forward.Protocol, f.Forward.DstPort)
	})
}

func isAddr(b []byte, a netip.Addr) bool {
	addr, ok := netip.AddrFromSlice(b)
	return ok && addr.Unmap() == a
}
