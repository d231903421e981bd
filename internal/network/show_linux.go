package network

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/auser/mvm/internal/network/firewall"
)

// Status is what there is of the tenants' network at this moment.
type Status struct {
	Firewall   string                    `json:"firewall"`        // nft, iptables, or empty
	Forwarding bool                      `json:"ipv4_forwarding"` // on this host
	Gateway    netip.Prefix              `json:"gateway"`
	Resolvers  []netip.Addr              `json:"resolvers"`
	Bridges    []Link                    `json:"bridges"`
	TAPs       []Link                    `json:"taps"`
	Drops      map[string]firewall.Drops `json:"drops"` // packets, by TAP and reason
}

// Link is a bridge or a TAP.
type Link struct {
	Name   string `json:"name"`
	Bridge string `json:"bridge,omitempty"` // of a TAP
	MAC    string `json:"mac"`
	UID    int    `json:"uid,omitempty"` // of a TAP: who may open it
	Up     bool   `json:"up"`            // it is switched on
	InUse  bool   `json:"in_use"`        // a TAP that a VMM holds, a bridge with such a TAP
	// As the host sees them: received is what the tenants sent.
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
}

// Show observes the tenants' network.
func Show(ctx context.Context, cfg Config) (Status, error) {
	s, err := show(ctx, cfg)
	if err != nil {
		return s, fmt.Errorf("cannot show the tenants' network: %w", err)
	}
	return s, nil
}

func show(ctx context.Context, cfg Config) (s Status, err error) {
	if err := cfg.Validate(); err != nil {
		return s, err
	}
	l, err := openLinks(cfg)
	if err != nil {
		return s, err
	}
	defer l.Close()
	seen, err := l.observe()
	if err != nil {
		return s, err
	}
	base, err := cfg.base()
	if err != nil {
		return s, err
	}
	s = Status{Gateway: cfg.Subnet, Resolvers: base.DNS, Drops: map[string]firewall.Drops{}}
	if s.Forwarding, err = forwarding(); err != nil {
		return s, err
	}
	names := map[int]string{}
	for _, name := range slices.Sorted(maps.Keys(seen.bridges)) {
		names[seen.bridges[name].Attrs().Index] = name
		s.Bridges = append(s.Bridges, linkStatus(seen.bridges[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(seen.taps)) {
		tap := linkStatus(seen.taps[name])
		tap.Bridge = names[seen.taps[name].Attrs().MasterIndex]
		s.TAPs = append(s.TAPs, tap)
	}
	for _, b := range cfg.backends() {
		present, err := b.Present(ctx, base)
		if err != nil {
			return s, err
		}
		if !present {
			continue
		}
		s.Firewall = b.Name()
		if s.Drops, err = b.Drops(ctx, base); err != nil {
			return s, err
		}
	}
	return s, nil
}

func linkStatus(link netlink.Link) Link {
	a := link.Attrs()
	out := Link{Name: a.Name, MAC: a.HardwareAddr.String(), Up: a.Flags&net.FlagUp != 0, InUse: a.OperState == netlink.OperUp}
	if tun, ok := link.(*netlink.Tuntap); ok {
		out.UID = int(tun.Owner)
	}
	if st := a.Statistics; st != nil {
		out.RxBytes, out.TxBytes, out.RxPackets, out.TxPackets = st.RxBytes, st.TxBytes, st.RxPackets, st.TxPackets
	}
	return out
}
