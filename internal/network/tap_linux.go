package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tapFlags are the ones Firecracker opens a TAP with, so that it finds the
// device as it wants it.
const tapFlags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// createTAP makes a persistent TAP device that uid and gid may open. It joins
// the scope's link group before it becomes persistent: killed earlier, it
// vanishes with its descriptor, so no TAP is ever left that is not known as
// mvm's.
func (l *links) createTAP(name string, uid, gid int) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(tapFlags | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("cannot create it: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, uid); err != nil {
		return fmt.Errorf("cannot give it to uid %d: %w", uid, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETGROUP, gid); err != nil {
		return fmt.Errorf("cannot give it to gid %d: %w", gid, err)
	}
	link, err := l.LinkByName(name)
	if err != nil {
		return err
	}
	if err := l.LinkSetGroup(link, int(l.cfg.group())); err != nil {
		return fmt.Errorf("cannot set its link group: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("cannot make it persistent: %w", err)
	}
	return nil
}

// ensureTAP returns the endpoint's TAP, making it where it is missing. A TAP
// of ours with another owner is made anew; a device of somebody else's is an
// error.
func (l *links) ensureTAP(ep Endpoint) (link netlink.Link, created bool, err error) {
	link, err = l.link(ep.TAP)
	if err != nil {
		return nil, false, err
	}
	if link != nil {
		if err := l.checkOwnTAP(link); err != nil {
			return nil, false, err
		}
		tun, ok := link.(*netlink.Tuntap)
		if ok && tun.Owner == uint32(ep.UID) && tun.Group == uint32(ep.GID) {
			return link, false, nil
		}
		if err := l.LinkDel(link); err != nil {
			return nil, false, fmt.Errorf("cannot replace tap %s: %w", ep.TAP, err)
		}
	}
	if err := l.createTAP(ep.TAP, ep.UID, ep.GID); err != nil {
		return nil, false, fmt.Errorf("cannot make tap %s: %w", ep.TAP, err)
	}
	link, err = l.LinkByName(ep.TAP)
	return link, true, err
}

func (l *links) checkOwnTAP(link netlink.Link) error {
	if link.Type() != "tuntap" && link.Type() != "tun" || !l.owns(link) {
		return &ConflictError{fmt.Sprintf("the name %s is taken by a %s device that is not mvm's", link.Attrs().Name, link.Type())}
	}
	return nil
}

// tapSysctls and the missing ARP close the way around the bridge: it hands
// frames to 01:80:c2:00:00:0x to the host in the port's own name. What comes
// that way finds no IPv6, no ARP, and a reverse path that leads elsewhere.
var tapSysctls = []sysctl{
	{"ipv6/conf/%s/disable_ipv6", "1"},
	{"ipv4/conf/%s/rp_filter", "1"},
	{"ipv4/conf/%s/accept_source_route", "0"},
	{"ipv4/conf/%s/accept_redirects", "0"},
}

// connectTAP makes the TAP a locked-down port of the bridge and brings it up,
// last of all: the rules must stand before.
func (l *links) connectTAP(link, bridge netlink.Link, ep Endpoint) error {
	attrs := link.Attrs()
	if err := setSysctls(tapSysctls, ep.TAP); err != nil {
		return err
	}
	if err := l.LinkSetARPOff(link); err != nil {
		return fmt.Errorf("cannot switch ARP off: %w", err)
	}
	if attrs.MasterIndex != bridge.Attrs().Index {
		if err := l.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("cannot join bridge %s: %w", bridge.Attrs().Name, err)
		}
	}
	if err := setPortFlags(attrs.Index); err != nil {
		return fmt.Errorf("cannot lock its port down: %w", err)
	}
	for _, n := range l.neighbours(attrs.Index, bridge.Attrs().Index, ep) {
		if err := l.NeighSet(n); err != nil {
			return fmt.Errorf("cannot add the static entry %s: %w", n, err)
		}
	}
	if route := l.tenantRoute(bridge, ep.IP); route != nil {
		if err := l.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot add the route to %s: %w", ep.IP, err)
		}
	}
	return l.LinkSetUp(link)
}

// ntfSticky is NTF_STICKY of linux/neighbour.h.
const ntfSticky = 0x40

// neighbours are the tenant's static entries: its MAC is behind its port, and
// its address belongs to its MAC. Nothing anybody sends changes either: without
// sticky, a static entry would still follow the MAC to another port.
func (l *links) neighbours(tap, bridge int, ep Endpoint) []*netlink.Neigh {
	return []*netlink.Neigh{
		{Family: unix.AF_BRIDGE, LinkIndex: tap, HardwareAddr: ep.MAC, Flags: netlink.NTF_MASTER | ntfSticky, State: netlink.NUD_NOARP},
		{Family: unix.AF_INET, LinkIndex: bridge, IP: ep.IP.AsSlice(), HardwareAddr: ep.MAC, State: netlink.NUD_PERMANENT},
	}
}

// tenantRoute leads to a tenant on a further bridge; the first bridge has the
// route to the whole subnet.
func (l *links) tenantRoute(bridge netlink.Link, ip netip.Addr) *netlink.Route {
	if bridge.Attrs().Name == l.cfg.Bridge {
		return nil
	}
	return &netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: ipNet(netip.PrefixFrom(ip, 32)), Scope: netlink.SCOPE_LINK, Src: l.cfg.Gateway().AsSlice()}
}

// disconnect removes the TAP and the entries that do not go with it.
func (l *links) disconnect(ep Endpoint) error {
	link, err := l.link(ep.TAP)
	if err != nil {
		return err
	}
	if link != nil && l.checkOwnTAP(link) == nil {
		if err := l.LinkDel(link); err != nil && !gone(err) {
			return fmt.Errorf("cannot remove tap %s: %w", ep.TAP, err)
		}
	}
	bridge, err := l.link(l.cfg.BridgeOf(ep.IP))
	if err != nil || bridge == nil || !l.owns(bridge) {
		return err
	}
	neigh := &netlink.Neigh{Family: unix.AF_INET, LinkIndex: bridge.Attrs().Index, IP: ep.IP.AsSlice()}
	if err := l.NeighDel(neigh); err != nil && !gone(err) {
		return fmt.Errorf("cannot remove the neighbour entry of %s: %w", ep.IP, err)
	}
	if route := l.tenantRoute(bridge, ep.IP); route != nil {
		if err := l.RouteDel(route); err != nil && !gone(err) {
			return fmt.Errorf("cannot remove the route to %s: %w", ep.IP, err)
		}
	}
	return nil
}

// gone says that what was to be removed is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH)
}

// portFlags are a bridge port's attributes (IFLA_BRPORT_*) and the values that
// a tenant's port must have: nothing is learned from it, nothing is flooded to
// it, frames reach no other isolated port, and only the MAC with a static entry
// may send (locked).
var portFlags = []struct {
	name  string
	attr  int
	value byte
}{
	{"isolated", unix.IFLA_BRPORT_ISOLATED, 1},
	{"learning", unix.IFLA_BRPORT_LEARNING, 0},
	{"flood", unix.IFLA_BRPORT_UNICAST_FLOOD, 0},
	{"mcast_flood", unix.IFLA_BRPORT_MCAST_FLOOD, 0},
	{"bcast_flood", unix.IFLA_BRPORT_BCAST_FLOOD, 0},
	{"locked", unix.IFLA_BRPORT_LOCKED, 1},
}

// setPortFlags sets all flags in one request.
func setPortFlags(index int) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for _, f := range portFlags {
		info.AddRtAttr(f.attr, []byte{f.value})
	}
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
