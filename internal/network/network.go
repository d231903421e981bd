// Package network gives tenants their network and keeps them apart in it.
//
// It owns the bridge (bridges, beyond 1000 tenants), the tenants' TAP devices,
// the static neighbour and forwarding entries, the routing guard and, through
// its firewall package, the rules. Everything is desired state: the functions
// compute what is missing, can be killed at any instant and repeated, and need
// no object of an earlier run. It takes and returns plain values and knows
// nothing of state files, tenants' ids or locks.
//
// Locking: Attach, Update and Detach may run at the same time for different
// tenants, also from different processes. Reconcile and CleanUp remove what
// they are not told of, so the caller keeps them apart from the other three
// (mvm's lock for shared host state).
package network

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/network/ipam"
)

// Policy, Rule and Service are the firewall's own.
type (
	Policy  = firewall.Policy
	Rule    = firewall.Rule
	Service = firewall.Service
)

// Modes of a policy.
const (
	Open  = firewall.Open
	None  = firewall.None
	Allow = firewall.Allow
)

// FlowLimit is how many connections of one tenant the host tracks at a time.
const FlowLimit = firewall.FlowLimit

// maxLinkName is the longest name that Linux gives an interface.
const maxLinkName = 15

// portsPerBridge is how many tenants share a bridge. The kernel's limit is
// 1023 ports; the rest is room for probe ports.
const portsPerBridge = 1000

// Config is the host's side of the tenants' network.
type Config struct {
	Bridge       string       // br-tenants, or br-<hash> in another scope
	Subnet       netip.Prefix // the gateway's address with the prefix length, such as 10.50.0.1/24
	Table        string       // of the firewall: mvm, or mvm_<hash>
	DNS          []netip.Addr // empty: the host's own upstreams
	GatewayPorts []Service    // what tenants may reach on the gateway
	GatewayOpen  bool         // everything on the gateway
	Firewall     string       // nft, iptables, or empty to choose by trying

	// Did, if not nil, is told of each step of Attach as it ends.
	Did func(step string, began time.Time)
}

func (c Config) did(step string, began time.Time) {
	if c.Did != nil {
		c.Did(step, began)
	}
}

// Endpoint is one tenant's place in the network.
type Endpoint struct {
	TAP      string
	MAC      net.HardwareAddr
	IP       netip.Addr
	UID, GID int // who may open the TAP
	Policy   Policy
	// Passing is one that is only now being attached or detached, by somebody
	// else: Reconcile restores what it has, and does not make its TAP.
	Passing bool
}

// Change is one act, done or (in a dry run) due.
type Change struct {
	Object string `json:"object"` // "tap tap-acme", "rules of tap-acme", "ipv4 forwarding", …
	Action string `json:"action"` // add, set, remove
	Detail string `json:"detail,omitempty"`
}

func (c Change) String() string {
	if c.Detail == "" {
		return c.Action + " " + c.Object
	}
	return c.Action + " " + c.Object + ": " + c.Detail
}

// ConflictError says that something mvm needs is somebody else's.
type ConflictError struct{ Msg string }

func (e *ConflictError) Error() string { return e.Msg }

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if err := ipam.CheckSubnet(c.Subnet); err != nil {
		return err
	}
	if !isName(c.Bridge) || len(c.Bridge) > maxLinkName {
		return fmt.Errorf("%q is no bridge name of 1 to %d letters, digits, dashes and underscores", c.Bridge, maxLinkName)
	}
	if !isName(c.Table) || len(c.Table) > 16 {
		return fmt.Errorf("%q is no table name", c.Table)
	}
	for _, s := range c.GatewayPorts {
		if s.Proto != "tcp" && s.Proto != "udp" || s.Port == 0 {
			return fmt.Errorf("gateway port %s/%d is not tcp/<port> or udp/<port>", s.Proto, s.Port)
		}
	}
	for _, a := range c.DNS {
		if !a.Is4() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("DNS server %s is no IPv4 address that a guest can reach", a)
		}
	}
	switch c.Firewall {
	case "", "nft", "iptables":
		return nil
	}
	return fmt.Errorf("firewall %q is neither nft nor iptables", c.Firewall)
}

// Validate says why the endpoint cannot be part of the network.
func (c Config) validate(ep Endpoint) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if !isName(ep.TAP) || len(ep.TAP) > maxLinkName {
		return fmt.Errorf("%q is no name for a TAP device", ep.TAP)
	}
	if len(ep.MAC) != 6 || ep.MAC[0]&1 != 0 {
		return fmt.Errorf("%s is no unicast MAC address", ep.MAC)
	}
	if slices.Equal(ep.MAC, c.gatewayMAC()) {
		return fmt.Errorf("%s is the gateway's MAC address", ep.MAC)
	}
	if !c.Subnet.Contains(ep.IP) || ep.IP == c.Gateway() || ep.IP == c.Subnet.Masked().Addr() {
		return fmt.Errorf("%s is no tenant's address in %s", ep.IP, c.Subnet.Masked())
	}
	return ep.Policy.Validate()
}

// Gateway is the tenants' default gateway.
func (c Config) Gateway() netip.Addr { return c.Subnet.Addr() }

// BridgeOf names the bridge that the tenant with this address is on. It is a
// function of the address alone, so it is as stable as the address.
func (c Config) BridgeOf(ip netip.Addr) string {
	index, err := ipam.Index(c.Subnet, ip)
	if err != nil {
		return c.Bridge // one of mvm's own reserved addresses
	}
	return c.bridge(index / portsPerBridge)
}

func (c Config) bridge(n int) string {
	if n == 0 {
		return c.Bridge
	}
	name := fmt.Sprintf("%s-%d", c.Bridge, n+1)
	if len(name) > maxLinkName {
		sum := sha256.Sum256([]byte("mvm/bridge\x00" + c.Bridge))
		name = fmt.Sprintf("br_%x-%d", sum[:4], n+1)
	}
	return name
}

// bridges are the names of all bridges that the subnet can need.
func (c Config) bridges() []string {
	var names []string
	for n := 0; n*portsPerBridge < ipam.Size(c.Subnet); n++ {
		names = append(names, c.bridge(n))
	}
	return names
}

// group is the link group of every bridge and TAP of this scope, and the
// number of its routing table. It is how mvm recognises what is its own.
func (c Config) group() uint32 {
	sum := sha256.Sum256([]byte("mvm/link-group\x00" + c.Table))
	return firewall.Groups | binary.BigEndian.Uint32(sum[:])>>8
}

// gatewayMAC is pinned: left alone, a bridge takes the lowest MAC among its
// ports and changes it when ports come and go.
func (c Config) gatewayMAC() net.HardwareAddr {
	sum := sha256.Sum256([]byte("mvm/gateway-mac\x00" + c.Table))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// isName says whether s can stand in a rule, a file name and a command line
// as it is.
func isName(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
		if !letter && (r != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}
