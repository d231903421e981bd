// Package firewall holds back what tenants must not send or reach.
//
// It owns one set of tables (nftables) or chains and sets (iptables) per
// scope, and nothing else of the host's rules. It renders rules as text and
// hands a whole change to the kernel in one transaction. It knows nothing of
// how links are made, of tenant ids, or of where settings are stored.
package firewall

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Mark is the bit of a packet's mark that means "the rules vouch for this
// packet". The routing guard steps aside for it, and the host's other firewalls
// are told to accept it (see Obstacles). Rules that are gone mark nothing, so
// both fail closed.
const Mark = 0x10000000

// proven is the bit that means "the sender is who it says", set by the frame
// rules and taken away by the packet rules, which drop what comes without it.
const proven = 0x20000000

// Groups is what the link groups of all scopes have in common under GroupMask.
const (
	Groups    = 0x6d000000
	GroupMask = 0xff000000
)

// FlowLimit is how many connections of one tenant the host tracks at a time.
const FlowLimit = 4096

// Base is what the rules need to know of the host's side.
type Base struct {
	Table      string     // nft tables; in upper case the prefix of iptables chains
	Group      uint32     // link group of all bridges and TAPs in this scope
	Gateway    netip.Addr //
	GatewayMAC net.HardwareAddr
	Subnet     netip.Prefix // masked
	DNS        []netip.Addr // reachable on port 53 whatever the policy says
	Services   []Service    // what tenants may reach on the gateway
	Open       bool         // everything on the gateway
}

// Service is a port that the host offers.
type Service struct {
	Proto string // tcp or udp
	Port  uint16
}

// Tenant is one tenant's place in the rules.
type Tenant struct {
	TAP    string
	MAC    net.HardwareAddr
	IP     netip.Addr
	Policy Policy
}

// Modes of a policy.
const (
	Open  = "open"  // the internet, no private ranges
	None  = "none"  // nothing but the gateway and DNS
	Allow = "allow" // what the rules name, also private ranges
)

// Policy is what a tenant may reach beyond the gateway. Link-local addresses
// are never among it.
type Policy struct {
	Mode  string
	Allow []Rule
}

// Rule allows one destination. Without Proto every protocol is allowed,
// without Port every port.
type Rule struct {
	Prefix netip.Prefix
	Proto  string // "", tcp or udp
	Port   uint16
}

// Reserved are the destinations that no policy can open: cloud metadata, the
// host's loopback, multicast. Private are those that only a rule opens.
var (
	Reserved = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
	Private  = prefixes("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15")
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// Validate says what is wrong with the policy.
func (p Policy) Validate() error {
	switch p.Mode {
	case Open, None:
		if len(p.Allow) > 0 {
			return fmt.Errorf("policy %q takes no rules", p.Mode)
		}
		return nil
	case Allow:
	default:
		return fmt.Errorf("%q is no policy", p.Mode)
	}
	for _, r := range p.Allow {
		switch {
		case !r.Prefix.IsValid() || !r.Prefix.Addr().Is4():
			return fmt.Errorf("%s is no IPv4 network", r.Prefix)
		case r.Proto != "" && r.Proto != "tcp" && r.Proto != "udp":
			return fmt.Errorf("protocol %q is neither tcp nor udp", r.Proto)
		case r.Proto == "" && r.Port != 0:
			return fmt.Errorf("port %d needs a protocol", r.Port)
		}
	}
	return nil
}

// Permits says whether the policy lets a packet to dst pass, as the rules do.
// proto is the IP protocol number, port the destination port or 0.
func (p Policy) Permits(dst netip.Addr, proto uint8, port uint16) bool {
	if within(Reserved, dst) {
		return false
	}
	switch p.Mode {
	case Open:
		return !within(Private, dst)
	case Allow:
		for _, r := range p.Allow {
			if r.Prefix.Contains(dst) && (r.Proto == "" || protocols[r.Proto] == proto) && (r.Port == 0 || r.Port == port) {
				return true
			}
		}
	}
	return false
}

var protocols = map[string]uint8{"tcp": 6, "udp": 17}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Reason is why packets were dropped.
type Reason string

// Drops counts a tenant's dropped packets by reason.
type Drops map[Reason]uint64

// Difference is one thing that is not as it should be.
type Difference struct {
	Tenant Tenant // whose; the zero value for the base rules
	What   string // for people: "chain raw lacks a rule", "no element in set ident"
}

// Base says that it is not about one tenant's rules.
func (d Difference) Base() bool { return d.Tenant.TAP == "" }

// Backend is one way to load the rules. Every method is one transaction as far
// as the kernel offers it, and can be repeated.
type Backend interface {
	Name() string
	// Check tries whether this host can load the rules, and leaves no trace.
	Check(ctx context.Context, b Base) error
	// Add makes the tenant part of the rules with its policy, and the base
	// rules where they are missing or different.
	Add(ctx context.Context, b Base, t Tenant) error
	// Remove takes the tenant out of the rules.
	Remove(ctx context.Context, b Base, t Tenant) error
	// Replace makes the rules exactly what b and tenants say, without a
	// moment in which anything else passes.
	Replace(ctx context.Context, b Base, tenants []Tenant) error
	// Clear removes everything of this table.
	Clear(ctx context.Context, b Base) error
	// Present says whether there is anything of this table.
	Present(ctx context.Context, b Base) (bool, error)
	// Diff compares what is there with what b and tenants say.
	Diff(ctx context.Context, b Base, tenants []Tenant) ([]Difference, error)
	// Drops reads the counters, by TAP.
	Drops(ctx context.Context, b Base) (map[string]Drops, error)
}
