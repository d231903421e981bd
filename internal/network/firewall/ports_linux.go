package firewall

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// portsByMAC are the bridge ports of a link group by the MAC address that is
// fixed behind them.
func portsByMAC(group uint32) (map[string]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		if l.Attrs().Group == group && l.Attrs().MasterIndex != 0 {
			names[l.Attrs().Index] = l.Attrs().Name
		}
	}
	fdb, err := netlink.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("cannot list forwarding entries: %w", err)
	}
	out := map[string]string{}
	for _, n := range fdb {
		if names[n.LinkIndex] != "" && n.State&netlink.NUD_NOARP != 0 {
			out[n.HardwareAddr.String()] = names[n.LinkIndex]
		}
	}
	return out, nil
}
