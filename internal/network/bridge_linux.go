package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
)

// links does the netlink half of the work for one configuration.
type links struct {
	cfg Config
	*netlink.Handle
}

func openLinks(cfg Config) (*links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot open a netlink socket: %w", err)
	}
	return &links{cfg, h}, nil
}

// owns says whether the link is one of this scope's.
func (l *links) owns(link netlink.Link) bool { return link.Attrs().Group == l.cfg.group() }

// link returns the named link, or nil where there is none.
func (l *links) link(name string) (netlink.Link, error) {
	link, err := l.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up link %s: %w", name, err)
	}
	return link, nil
}

// ensureBridge returns the named bridge, making it where it is missing. A
// bridge that is up is complete: up is the last thing it gets, after
// beforeUp, which may return changes of its own.
func (l *links) ensureBridge(name string, beforeUp func() ([]Change, error)) (netlink.Link, []Change, error) {
	link, err := l.ownBridge(name)
	if err != nil {
		return nil, nil, err
	}
	if link != nil && link.Attrs().Flags&net.FlagUp != 0 {
		return link, nil, nil
	}
	if link == nil {
		if err := l.checkSubnetFree(); err != nil {
			return nil, nil, err
		}
	}
	if link, err = l.configureBridge(name); err != nil {
		return nil, nil, fmt.Errorf("cannot set up bridge %s: %w", name, err)
	}
	changes := []Change{{"bridge " + name, "add", l.cfg.Subnet.String()}}
	more, err := beforeUp()
	changes = append(changes, more...)
	if err != nil {
		return nil, changes, err
	}
	if err := l.LinkSetUp(link); err != nil {
		return nil, changes, fmt.Errorf("cannot bring bridge %s up: %w", name, err)
	}
	return link, changes, nil
}

// ownBridge returns the named bridge, nil where there is none, and an error
// where the name is somebody else's.
func (l *links) ownBridge(name string) (netlink.Link, error) {
	link, err := l.link(name)
	if link == nil || err != nil {
		return nil, err
	}
	if link.Type() != "bridge" || !l.owns(link) {
		return nil, &ConflictError{fmt.Sprintf("the name %s is taken by a %s device that is not mvm's", name, link.Type())}
	}
	return link, nil
}

// configureBridge makes the bridge and everything that belongs to it, but does
// not bring it up.
func (l *links) configureBridge(name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group, attrs.HardwareAddr = name, l.cfg.group(), l.cfg.gatewayMAC()
	noSnooping := false
	err := l.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &noSnooping})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	link, err := l.ownBridge(name)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return nil, fmt.Errorf("it vanished while it was made")
	}
	if link.Attrs().HardwareAddr.String() != l.cfg.gatewayMAC().String() {
		if err := l.LinkSetHardwareAddr(link, l.cfg.gatewayMAC()); err != nil {
			return nil, err
		}
	}
	if err := setSysctls(bridgeSysctls, name); err != nil {
		return nil, err
	}
	addr := &netlink.Addr{IPNet: ipNet(l.bridgePrefix(name))}
	if err := l.AddrReplace(link, addr); err != nil {
		return nil, fmt.Errorf("cannot set address %s: %w", addr.IPNet, err)
	}
	if err := l.ensureGuard(name); err != nil {
		return nil, err
	}
	return link, nil
}

// bridgePrefix is the gateway's address on the named bridge. The first bridge
// has the whole subnet; the others have /32 and a route for each tenant.
func (l *links) bridgePrefix(name string) netip.Prefix {
	if name == l.cfg.Bridge {
		return l.cfg.Subnet
	}
	return netip.PrefixFrom(l.cfg.Gateway(), 32)
}

// checkSubnetFree refuses a subnet that somebody else uses: one that overlaps
// a network the host is on, or that has a route of its own. A wider route by
// way of a router is no conflict; the bridge's is the more specific one.
func (l *links) checkSubnetFree() error {
	subnet := l.cfg.Subnet.Masked()
	addrs, err := firewall.Whole(func() ([]netlink.Addr, error) { return l.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("cannot list addresses: %w", err)
	}
	own := map[int]bool{}
	for _, name := range l.cfg.bridges() {
		if link, err := l.link(name); err != nil {
			return err
		} else if link != nil && l.owns(link) {
			own[link.Attrs().Index] = true
		}
	}
	for _, a := range addrs {
		if p := prefix(a.IPNet); !own[a.LinkIndex] && p.Overlaps(subnet) {
			return &ConflictError{fmt.Sprintf("the subnet %s overlaps %s, which this host has on another interface", subnet, p)}
		}
	}
	routes, err := firewall.Whole(func() ([]netlink.Route, error) { return l.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("cannot list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || own[r.LinkIndex] {
			continue
		}
		p := prefix(r.Dst)
		onLink := r.Gw == nil && r.Via == nil
		if p.Bits() > 0 && p.Overlaps(subnet) && (onLink || p.Bits() >= subnet.Bits()) {
			return &ConflictError{fmt.Sprintf("the subnet %s overlaps %s, to which this host has a route", subnet, p)}
		}
	}
	return nil
}

// bridgeSysctls make the bridge answer for the gateway's address alone and
// take no advice from tenants.
var bridgeSysctls = []sysctl{
	{"ipv6/conf/%s/disable_ipv6", "1"},
	{"ipv4/conf/%s/forwarding", "1"},
	{"ipv4/conf/%s/rp_filter", "1"},
	{"ipv4/conf/%s/arp_ignore", "1"},
	{"ipv4/conf/%s/arp_filter", "1"}, // learn no neighbour whose address leads elsewhere
	{"ipv4/conf/%s/arp_announce", "2"},
	{"ipv4/conf/%s/send_redirects", "0"},
	{"ipv4/conf/%s/accept_redirects", "0"},
	{"ipv4/conf/%s/accept_source_route", "0"},
	{"ipv4/conf/%s/route_localnet", "0"},
	{"ipv4/conf/%s/proxy_arp", "0"},
}

// sysctl is a setting of one link, whose name stands for %s in the key.
type sysctl struct{ key, value string }

const netSysctls = "/proc/sys/net"

// setSysctls sets them for the link.
func setSysctls(list []sysctl, link string) error {
	for _, s := range list {
		if err := setSysctl(fmt.Sprintf(s.key, link), s.value); err != nil {
			return err
		}
	}
	return nil
}

// setSysctl writes where the value differs. A kernel without IPv6 has no IPv6
// to switch off.
func setSysctl(key, value string) error {
	path := filepath.Join(netSysctls, key)
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(key, "ipv6/") {
		return nil
	}
	if err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("cannot set sysctl net/%s to %s: %w", key, value, err)
	}
	return nil
}

// ensureForwarding switches IPv4 forwarding on where it is off.
func ensureForwarding() ([]Change, error) {
	on, err := forwarding()
	if on || err != nil {
		return nil, err
	}
	if err := setSysctl("ipv4/ip_forward", "1"); err != nil {
		return nil, err
	}
	return []Change{forwardingChange}, nil
}

var forwardingChange = Change{"ipv4 forwarding", "set", "switched on: it was off on this host"}

func forwarding() (bool, error) {
	data, err := os.ReadFile(filepath.Join(netSysctls, "ipv4/ip_forward"))
	if err != nil {
		return false, fmt.Errorf("cannot read whether IPv4 forwarding is on: %w", err)
	}
	return strings.TrimSpace(string(data)) == "1", nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
