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

// cutForbiddenFlows ends the endpoint's connections that its policy does not
// permit (any more). Those to the gateway and to DNS are not the policy's.
func cutForbiddenFlows(ep Endpoint, gateway netip.Addr, resolvers []netip.Addr) error {
	return cutFlows(func(f *netlink.ConntrackFlow) bool {
		if !isAddr(f.Forward.SrcIP, ep.IP) {
			return false
		}
		dst, ok := netip.AddrFromSlice(f.Forward.DstIP)
		if !ok {
			return true
		}
		dst = dst.Unmap()
		if dst == gateway || f.Forward.DstPort == 53 && slices.Contains(resolvers, dst) {
			return false
		}
		return !ep.Policy.Permits(dst, f.Forward.Protocol, f.Forward.DstPort)
	})
}

func isAddr(b []byte, a netip.Addr) bool {
	addr, ok := netip.AddrFromSlice(b)
	return ok && addr.Unmap() == a
}
