package firewall

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
)

// The rules of a tenant never change with other tenants: each one is an
// element of two sets, so neither packets nor updates get slower as tenants
// are added. Only a tenant with an allowlist has a chain of its own.
//
// Kernels without bridge "ct", "reject" or "meta ibrname" are common, so the
// bridge table uses none of them: frames are told apart by link group, and
// everything that needs connections happens in the inet table.
//
// A packet that is under way while the rules are replaced may find a set
// without elements. So a lookup in a set only ever lets something pass, and
// what follows it drops; what is to be dropped is matched without sets.

// Reasons for a drop in the bridge table, counted by TAP.
const (
	Spoofed   Reason = "spoofed"   // another sender address than the tenant's own
	Ethertype Reason = "ethertype" // neither IPv4 nor ARP: IPv6, VLAN tags, LLC, …
	Lateral   Reason = "lateral"   // a frame to anybody but the gateway
	ARP       Reason = "arp"       // malformed, for others, or with somebody else's address
	ARPRate   Reason = "arp-rate"  // more ARP than a guest needs
	Fragments Reason = "fragments" // more pieces of packets than a guest needs, or larger ones than its link takes
)

// Reasons for a drop in the inet table, counted by address.
const (
	Neighbours Reason = "tenants"   // another tenant, by way of the gateway
	Unroutable Reason = "reserved"  // link-local (cloud metadata), loopback, multicast
	HostAddr   Reason = "host"      // another address of the host
	GatewayNo  Reason = "gateway"   // a service the gateway does not offer
	Published  Reason = "published" // a port that somebody else redirects, such as Docker
	PrivateNet Reason = "private"   // a private range that the policy does not name
	Egress     Reason = "egress"    // outside the policy
	Flows      Reason = "flows"     // too many connections
	Invalid    Reason = "invalid"   // part of no connection, or a redirect
	Inbound    Reason = "inbound"   // unsolicited, from outside to the tenant
)

var (
	frameReasons  = []Reason{Spoofed, Ethertype, Lateral, ARP, ARPRate, Fragments}
	packetReasons = []Reason{Neighbours, Unroutable, HostAddr, GatewayNo, Published, PrivateNet, Egress, Flows, Invalid, Inbound}
)

func (r Reason) set() string   { return "drops_" + strings.ReplaceAll(string(r), "-", "_") }
func (r Reason) chain() string { return "drop_" + strings.ReplaceAll(string(r), "-", "_") }

// icmpErrors are the messages that quote a packet of some connection.
var icmpErrors = []string{"destination-unreachable", "source-quench", "redirect", "time-exceeded", "parameter-problem"}

// script collects the lines of one nft transaction.
type script struct{ strings.Builder }

func (s *script) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// chain makes a chain exactly what rules say, whatever it was before. hook is
// empty for a chain that is only jumped to.
func (s *script) chain(family, table, name, hook string, rules ...string) {
	if hook != "" {
		hook = " { type " + hook + "; policy accept; }"
	}
	s.line("add chain %s %s %s%s", family, table, name, hook)
	s.line("flush chain %s %s %s", family, table, name)
	for _, r := range rules {
		s.line("add rule %s %s %s %s", family, table, name, r)
	}
}

// base renders the rules that are the same for all tenants. Loading it where
// it stands already changes no element, so it can be part of any transaction.
func (b Base) base() string {
	var s script
	s.frames(b)
	s.packets(b)
	return s.String()
}

// stamp is the name of an empty chain that tells which base rules are loaded:
// flushing it changes nothing, and fails where other rules stand.
func (b Base) stamp() string {
	return fmt.Sprintf("%s%x", stampPrefix, sha256.Sum256([]byte(b.base())))[:len(stampPrefix)+16]
}

const stampPrefix = "base_"

// frames is the bridge table: who may send which frame.
func (s *script) frames(b Base) {
	t, group, gw := b.Table, fmt.Sprint(b.Group), b.GatewayMAC
	chain := func(name, hook string, rules ...string) { s.chain("bridge", t, name, hook, rules...) }
	s.line("add table bridge %s", t)
	s.line("add set bridge %s ident { type ifname . ether_addr . ipv4_addr; size 65536; }", t)
	s.line("add set bridge %s arp_rate { type ifname; size 65536; flags dynamic,timeout; timeout 1m; }", t)
	s.line("add set bridge %s fragment_rate { type ifname; size 65536; flags dynamic,timeout; timeout 1m; }", t)
	for _, r := range frameReasons {
		s.line("add set bridge %s %s { type ifname; size 65536; flags dynamic; counter; }", t, r.set())
		chain(r.chain(), "", fmt.Sprintf("update @%s { iifname }", r.set()), "drop")
	}
	// The kernel puts the pieces of a packet together before any policy is
	// asked. Those whose rest never comes stay for half a minute in 4 MiB that
	// the host and all tenants share: 100 and 20 a second take less than half.
	chain("ip_fragment", "",
		"ip length > 1500 goto "+Fragments.chain(),
		"update @fragment_rate { iifname limit rate over 20/second burst 100 packets } goto "+Fragments.chain())
	chain("ip_from_tenant", "",
		"ether daddr != "+gw.String()+" goto "+Lateral.chain(),
		"ip frag-off & 0x3fff != 0 jump ip_fragment",
		fmt.Sprintf("iifname . ether saddr . ip saddr @ident meta mark set meta mark & 0x%08x | 0x%08x accept", ^uint32(Mark|proven), proven),
		"goto "+Spoofed.chain())
	chain("arp_from_tenant", "",
		"update @arp_rate { iifname limit rate over 20/second burst 40 packets } goto "+ARPRate.chain(),
		"arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 arp operation { request, reply } "+
			"ether daddr { ff:ff:ff:ff:ff:ff, "+gw.String()+" } arp daddr ip "+b.Gateway.String()+" "+
			"iifname . ether saddr . arp saddr ip @ident iifname . arp saddr ether . arp saddr ip @ident accept",
		// A probe for its own address (RFC 5227).
		"arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 arp operation request arp saddr ip 0.0.0.0 "+
			"iifname . ether saddr . arp daddr ip @ident iifname . arp saddr ether . arp daddr ip @ident accept",
		"goto "+ARP.chain())
	// "ether type" reads the frame as it is on the wire, so a tagged frame is
	// neither; "ip saddr" alone would match it. It stands in a rule of its own,
	// because nft leaves it out when it lists it beside an "ip saddr".
	chain("from_tenant", "",
		"ether type ip goto ip_from_tenant",
		"ether type arp goto arp_from_tenant",
		"goto "+Ethertype.chain())
	// To a tenant: unicast to its own address, nothing flooded.
	chain("ip_to_tenant", "", "oifname . ether daddr . ip daddr @ident accept", "drop")
	chain("arp_to_tenant", "", "oifname . ether daddr . arp daddr ip @ident accept", "drop")
	chain("to_tenant", "", "ether type ip goto ip_to_tenant", "ether type arp goto arp_to_tenant", "drop")
	// Before br_netfilter (0), connection tracking and everybody's DNAT.
	chain("prerouting", "filter hook prerouting priority -300", "iifgroup "+group+" goto from_tenant")
	// Nothing is ever switched from or to a tenant's port.
	chain("forward", "filter hook forward priority -200",
		"iifgroup "+group+" goto "+Lateral.chain(),
		"oifgroup "+group+" drop")
	chain("output", "filter hook output priority -200", "oifgroup "+group+" goto to_tenant")
}

// packets is the inet table: what may be reached.
func (s *script) packets(b Base) {
	t, group, gw := b.Table, fmt.Sprint(b.Group), b.Gateway.String()
	chain := func(name, hook string, rules ...string) { s.chain("inet", t, name, hook, rules...) }
	dns := dnsMatch(b.DNS)

	s.line("add table inet %s", t)
	s.line("add chain inet %s open", t)
	s.line("add map inet %s egress { type ipv4_addr : verdict; size 65536; }", t)
	s.line("add set inet %s flows { type ipv4_addr; size 65536; flags dynamic; }", t)
	s.line("add set inet %s echo_rate { type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; }", t)
	for _, r := range packetReasons {
		who := "ip saddr"
		if r == Inbound {
			who = "ip daddr"
		}
		s.line("add set inet %s %s { type ipv4_addr; size 65536; flags dynamic; counter; }", t, r.set())
		chain(r.chain(), "", fmt.Sprintf("update @%s { %s }", r.set(), who), "drop")
	}
	unmarked := fmt.Sprintf("meta mark & 0x%08x == 0 drop", Mark)
	chain("open", "", append(each(Private, "ip daddr %s goto "+PrivateNet.chain()), "accept")...)
	chain("closed", "", "goto "+Egress.chain())

	chain("new_from_tenant", "", b.fresh(dns)...)
	chain("from_tenant", "",
		fmt.Sprintf("meta mark & 0x%08x == 0 drop", proven), // no frame rule vouches for it
		fmt.Sprintf("meta mark set meta mark ^ 0x%08x", proven|Mark),
		"ct state established accept",
		"goto new_from_tenant")

	flows := fmt.Sprintf("add @flows { ip saddr ct count over %d } goto %s", FlowLimit, Flows.chain())
	input := []string{unmarked, "ct state established,related accept", flows}
	if dns != "" {
		input = append(input, dns+" accept") // a server that is this host
	}
	input = append(input, "ip daddr != "+gw+" goto "+HostAddr.chain())
	switch {
	case b.Open:
		input = append(input, "accept")
	case len(b.Services) > 0:
		input = append(input, "meta l4proto . th dport "+services(b.Services)+" accept")
	}
	chain("input_from_tenant", "", append(input,
		"icmp type echo-request update @echo_rate { ip saddr limit rate 100/second burst 100 packets } accept",
		"goto "+GatewayNo.chain())...)
	chain("forward_from_tenant", "",
		unmarked,
		"ct state established,related accept",
		"oifgroup "+group+" goto "+Neighbours.chain(),
		"ct status dnat goto "+Published.chain(),
		flows,
		"accept")
	chain("forward_to_tenant", "",
		fmt.Sprintf("ct state established,related meta mark set meta mark | 0x%08x accept", Mark),
		"goto "+Inbound.chain())

	chain("prerouting", "filter hook prerouting priority -150", "iifgroup "+group+" goto from_tenant")
	chain("input", "filter hook input priority -10", "iifgroup "+group+" goto input_from_tenant")
	chain("forward", "filter hook forward priority -10",
		"iifgroup "+group+" goto forward_from_tenant",
		"oifgroup "+group+" goto forward_to_tenant")
	chain("postrouting", "nat hook postrouting priority 90",
		"ip saddr "+b.Subnet.String()+" oifgroup != "+group+" masquerade fully-random")
}

// fresh are the rules for the first packet of a connection, before everybody's
// DNAT: the policy judges the destination that the tenant wrote. Others do not
// come as far; cutting connections is part of changing the policy.
//
// A guest's ICMP errors are dropped. The kernel relates an error to the
// connection that it quotes, whoever sends it: let pass, a tenant could end its
// neighbours' connections and the host's, and write to whom its policy forbids.
func (b Base) fresh(dns string) []string {
	rules := []string{
		"icmp type { " + strings.Join(icmpErrors, ", ") + " } goto " + Invalid.chain(),
		"ct state invalid goto " + Invalid.chain(),
		"ip daddr " + b.Gateway.String() + " accept",
		"ip daddr " + b.Subnet.String() + " goto " + Neighbours.chain(),
	}
	if dns != "" {
		rules = append(rules, dns+" accept")
	}
	rules = append(rules, each(Reserved, "ip daddr %s goto "+Unroutable.chain())...)
	return append(rules, "fib daddr type != unicast goto "+HostAddr.chain(), "ip saddr vmap @egress", "goto "+Egress.chain())
}

// tenantAdd renders the tenant's elements. They can be added again; only a
// different policy needs replace, which takes the old one out first.
func (b Base) tenantAdd(t Tenant, replace bool) string {
	var s script
	s.line("add element bridge %s ident { %s }", b.Table, identity(t))
	verdict := "goto " + map[string]string{Open: "open", None: "closed", Allow: allowChain(t.IP)}[t.Policy.Mode]
	if t.Policy.Mode == Allow {
		s.chain("inet", b.Table, allowChain(t.IP), "", allowRules(t.Policy.Allow)...)
	}
	if replace {
		s.line("delete element inet %s egress { %s }", b.Table, t.IP)
	}
	s.line("add element inet %s egress { %s : %s }", b.Table, t.IP, verdict)
	if replace && t.Policy.Mode != Allow {
		s.dropChain(b.Table, allowChain(t.IP))
	}
	return s.String()
}

// dropChain removes a chain whether or not it is there.
func (s *script) dropChain(table, name string) {
	s.line("add chain inet %s %s", table, name)
	s.line("flush chain inet %s %s", table, name)
	s.line("delete chain inet %s %s", table, name)
}

// tenantRemove renders the removal as a list of transactions of which each
// can stand alone, for when the whole fails because a part is gone already. What
// is added first can be deleted whether or not it was there, which a map's key
// whose value is not known cannot.
func (b Base) tenantRemove(t Tenant) []string {
	var rest script
	s := &rest
	s.dropChain(b.Table, allowChain(t.IP))
	for _, r := range frameReasons {
		s.line("add element bridge %s %s { %q }", b.Table, r.set(), t.TAP)
		s.line("delete element bridge %s %s { %q }", b.Table, r.set(), t.TAP)
	}
	for _, r := range packetReasons {
		s.line("add element inet %s %s { %s }", b.Table, r.set(), t.IP)
		s.line("delete element inet %s %s { %s }", b.Table, r.set(), t.IP)
	}
	return []string{
		fmt.Sprintf("delete element inet %s egress { %s }\n", b.Table, t.IP),
		fmt.Sprintf("add element bridge %[1]s ident { %[2]s }\ndelete element bridge %[1]s ident { %[2]s }\n", b.Table, identity(t)),
		s.String(),
	}
}

func identity(t Tenant) string { return fmt.Sprintf("%q . %s . %s", t.TAP, t.MAC, t.IP) }

const allowPrefix = "allow_"

func allowChain(ip netip.Addr) string {
	return allowPrefix + strings.ReplaceAll(ip.String(), ".", "_")
}

// allowRules are the rules of a tenant's allowlist, one for each entry.
func allowRules(rules []Rule) []string {
	var out []string
	for _, r := range rules {
		match := "ip daddr " + r.Prefix.Masked().String()
		switch {
		case r.Port != 0:
			match += fmt.Sprintf(" %s dport %d", r.Proto, r.Port)
		case r.Proto != "":
			match += " meta l4proto " + r.Proto
		}
		out = append(out, match+" accept")
	}
	return append(out, "goto "+Egress.chain())
}

func dnsMatch(servers []netip.Addr) string {
	if len(servers) == 0 {
		return ""
	}
	list := make([]string, len(servers))
	for i, a := range servers {
		list[i] = a.String()
	}
	return "ip daddr { " + strings.Join(list, ", ") + " } meta l4proto { tcp, udp } th dport 53"
}

func services(list []Service) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%s . %d", s.Proto, s.Port)
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

// each renders one rule for each network.
func each(list []netip.Prefix, rule string) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = fmt.Sprintf(rule, p)
	}
	return out
}
