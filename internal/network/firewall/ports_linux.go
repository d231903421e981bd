package firewall

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Whole lists anew what was changed while it was listed: any link, address or
// neighbour of the host that comes or goes cuts a list of netlink's short.
func Whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 20 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// portsByMAC are the bridge ports of a link group by the MAC address that is
// fixed behind them.
func portsByMAC(group uint32) (map[string]string, error) {
	links, err := Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		if l.Attrs().Group == group && l.Attrs().MasterIndex != 0 {
			names[l.Attrs().Index] = l.Attrs().Name
		}
	}
	fdb, err := Whole(func() ([]netlink.Neigh, error) { return netlink.NeighList(0, unix.AF_BRIDGE) })
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
