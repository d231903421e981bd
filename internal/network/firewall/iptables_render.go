package firewall

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
)

// The iptables rules do at the IP layer what the nft rules do; sets hold what
// differs between tenants. Frames are held back by the flags of the tenants'
// bridge ports, which network sets: no port sends to another, each only with
// its own MAC. ebtables, where the host has it, filters ARP.
//
// The policy is judged once, in the raw table, for every packet: a packet that
// passes gets Mark, and the filter table lets no packet pass without it.

// Chains, behind the prefix.
const (
	chainRaw     = "RAW"     // from the tenants, before connection tracking
	chainAllow   = "ALLOW"   // to the chain of a tenant with an allowlist
	chainVouch   = "VOUCH"   // the policy lets it pass
	chainInput   = "INPUT"   // to the gateway
	chainForward = "FORWARD" // routed
	chainFrom    = "FROM"
	chainTo      = "TO"
	chainFlows   = "FLOWS" // not too many connections
	chainNAT     = "NAT"
	chainIPv6    = "IPV6"
	chainARP     = "ARP" // in ebtables
)

// prefix starts the name of every chain of ours.
func (b Base) prefix() string { return strings.ToUpper(b.Table) + "-" }

func (b Base) ipt(chain string) string { return b.prefix() + chain }

// drop is the chain that counts and drops for a reason.
func (b Base) drop(r Reason) string { return b.prefix() + "D-" + strings.ToUpper(string(r)) }

// ipset names one of our sets.
func (b Base) ipset(name string) string { return b.Table + "-" + name }

const (
	setID    = "id"    // address and MAC of each tenant
	setOpen  = "open"  // addresses with the open policy
	setAllow = "allow" // addresses with an allowlist
)

func (b Base) dropSet(r Reason) string { return b.ipset("d-" + string(r)) }

// rawReasons are those that the raw table drops for.
var rawReasons = []Reason{Invalid, Neighbours, Unroutable, HostAddr, PrivateNet, Egress}

// hook is a jump from a chain of the kernel, or Docker's, to one of ours.
type hook struct{ table, from, to string }

func (b Base) hooks(docker bool) []hook {
	forward := "FORWARD"
	if docker { // Docker puts the jump to its users' chain first whenever it starts
		forward = "DOCKER-USER"
	}
	return []hook{
		{"raw", "PREROUTING", b.ipt(chainRaw)},
		{"filter", "INPUT", b.ipt(chainInput)},
		{"filter", forward, b.ipt(chainForward)},
		{"nat", "POSTROUTING", b.ipt(chainNAT)},
	}
}

// ipsets renders the sets. Creating one that is there changes nothing.
func (b Base) ipsets() string {
	var s script
	s.line("create -exist %s bitmap:ip,mac range %s", b.ipset(setID), b.Subnet)
	s.line("create -exist %s hash:ip maxelem 65536", b.ipset(setOpen))
	s.line("create -exist %s hash:ip maxelem 65536", b.ipset(setAllow))
	for _, r := range packetReasons {
		s.line("create -exist %s hash:ip maxelem 65536 counters", b.dropSet(r))
	}
	return s.String()
}

// ipsetNames are the names of our sets.
func (b Base) ipsetNames() []string {
	names := []string{b.ipset(setID), b.ipset(setOpen), b.ipset(setAllow)}
	for _, r := range packetReasons {
		names = append(names, b.dropSet(r))
	}
	return names
}

// rules are the chains of one table, in the format of iptables-save.
type rules struct {
	script
	b Base
}

// chain makes a chain what the rules say.
func (r *rules) chain(name string, list ...string) {
	r.line(":%s - [0:0]", name)
	for _, rule := range list {
		r.line("-A %s %s", name, rule)
	}
}

// drops makes the chains that count and drop.
func (r *rules) drops(reasons ...Reason) {
	for _, reason := range reasons {
		by := "src"
		if reason == Inbound {
			by = "dst"
		}
		// The set match counts; what is in no set is dropped all the same.
		r.chain(r.b.drop(reason), fmt.Sprintf("-m set --match-set %s %s -j DROP", r.b.dropSet(reason), by), "-j DROP")
	}
}

const (
	markSet   = "-j MARK --set-xmark 0x10000000/0x10000000"
	markClear = "-j MARK --set-xmark 0x0/0x10000000"
	unmarked  = "-m mark ! --mark 0x10000000/0x10000000"
)

// rawTable judges what tenants send.
func (b Base) rawTable() string {
	r := rules{b: b}
	r.drops(rawReasons...)
	r.chain(b.ipt(chainVouch), markSet)
	list := []string{
		fmt.Sprintf("-m devgroup ! --src-group 0x%x -j RETURN", b.Group),
		markClear,
		fmt.Sprintf("-m set ! --match-set %s src,src -j DROP", b.ipset(setID)),
	}
	for _, kind := range []int{3, 4, 5, 11, 12} { // icmpErrors; see there
		list = append(list, fmt.Sprintf("-p icmp -m icmp --icmp-type %d -g %s", kind, b.drop(Invalid)))
	}
	list = append(list,
		fmt.Sprintf("-d %s/32 -j RETURN", b.Gateway),
		fmt.Sprintf("-d %s -g %s", b.Subnet, b.drop(Neighbours)))
	list = append(list, b.dnsRules("-g "+b.ipt(chainVouch))...)
	list = append(list, each(Reserved, "-d %s -g "+b.drop(Unroutable))...)
	list = append(list, "-m addrtype ! --dst-type UNICAST -g "+b.drop(HostAddr),
		fmt.Sprintf("-m set --match-set %s src -g %s", b.ipset(setAllow), b.ipt(chainAllow)))
	list = append(list, each(Private, "-d %s -g "+b.drop(PrivateNet))...)
	list = append(list,
		fmt.Sprintf("-m set --match-set %s src -g %s", b.ipset(setOpen), b.ipt(chainVouch)),
		"-g "+b.drop(Egress))
	r.chain(b.ipt(chainRaw), list...)
	return r.String()
}

func (b Base) dnsRules(verdict string) []string {
	var out []string
	for _, a := range b.DNS {
		for _, proto := range []string{"udp", "tcp"} {
			out = append(out, fmt.Sprintf("-d %s/32 -p %s -m %s --dport 53 %s", a, proto, proto, verdict))
		}
	}
	return out
}

// filterTable lets pass what the raw table has vouched for.
func (b Base) filterTable() string {
	r := rules{b: b}
	r.drops(packetReasons...)
	invalid := "-m conntrack --ctstate INVALID -g " + b.drop(Invalid)
	// One rule, because each counts for itself.
	r.chain(b.ipt(chainFlows), fmt.Sprintf("-m connlimit --connlimit-above %d --connlimit-mask 32 --connlimit-saddr -g %s", FlowLimit, b.drop(Flows)))
	flows := "-m conntrack --ctstate NEW -j " + b.ipt(chainFlows)
	input := []string{
		fmt.Sprintf("-m devgroup ! --src-group 0x%x -j RETURN", b.Group),
		"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		invalid,
		flows,
	}
	input = append(input, b.dnsRules("-j ACCEPT")...)
	input = append(input, fmt.Sprintf("! -d %s/32 -g %s", b.Gateway, b.drop(HostAddr)))
	if b.Open {
		input = append(input, "-j ACCEPT")
	} else {
		for _, s := range b.Services {
			input = append(input, fmt.Sprintf("-p %s -m %s --dport %d -j ACCEPT", s.Proto, s.Proto, s.Port))
		}
	}
	input = append(input,
		"-p icmp -m icmp --icmp-type 8 -m hashlimit --hashlimit-upto 100/sec --hashlimit-burst 100 --hashlimit-mode srcip --hashlimit-name "+b.ipset("echo")+" -j ACCEPT",
		"-g "+b.drop(GatewayNo))
	r.chain(b.ipt(chainInput), input...)
	// An accept here is the last word: another scope's chains may come after.
	r.chain(b.ipt(chainFrom),
		fmt.Sprintf("-m devgroup --dst-group 0x%x/0x%x -g %s", Groups, uint32(GroupMask), b.drop(Neighbours)),
		"-m conntrack --ctstate DNAT -g "+b.drop(Published),
		invalid,
		unmarked+" -g "+b.drop(Egress),
		flows,
		"-j ACCEPT")
	r.chain(b.ipt(chainTo),
		"-m conntrack ! --ctstate RELATED,ESTABLISHED -g "+b.drop(Inbound),
		markSet,
		"-j ACCEPT")
	r.chain(b.ipt(chainForward),
		fmt.Sprintf("-m devgroup --src-group 0x%x -g %s", b.Group, b.ipt(chainFrom)),
		fmt.Sprintf("-m devgroup --dst-group 0x%x -g %s", b.Group, b.ipt(chainTo)))
	return r.String()
}

func (b Base) natTable() string {
	r := rules{b: b}
	r.chain(b.ipt(chainNAT), fmt.Sprintf("-s %s -m devgroup ! --dst-group 0x%x -j MASQUERADE --random-fully", b.Subnet, b.Group))
	return r.String()
}

// iptStamp is a rule that does nothing and tells which base rules are loaded.
func (b Base) iptStamp() string {
	sum := sha256.Sum256([]byte(b.rawTable() + b.filterTable() + b.natTable()))
	return fmt.Sprintf("-m comment --comment %s%x", stampPrefix, sum[:8])
}

// restore renders the base rules for iptables-restore --noflush, given what is
// there: hooks are replaced, since ours must come first, and once; the chain
// that leads to the tenants' own is made only where it is missing.
func (b Base) restore(there iptState) string {
	var s script
	for _, t := range []struct{ name, chains string }{{"raw", b.rawTable()}, {"filter", b.filterTable()}, {"nat", b.natTable()}} {
		s.line("*%s", t.name)
		if t.name == "raw" {
			if _, ok := there.chains["raw "+b.ipt(chainAllow)]; !ok {
				s.line(":%s - [0:0]", b.ipt(chainAllow))
			}
			head := ":" + b.ipt(chainRaw) + " - [0:0]\n"
			t.chains = strings.Replace(t.chains, head, head+"-A "+b.ipt(chainRaw)+" "+b.iptStamp()+"\n", 1)
		}
		s.WriteString(t.chains)
		for _, h := range there.hooks {
			if h.table == t.name {
				s.line("-D %s -j %s", h.from, h.to)
			}
		}
		for _, h := range b.hooks(there.docker) {
			if h.table == t.name {
				s.line("-I %s 1 -j %s", h.from, h.to)
			}
		}
		s.line("COMMIT")
	}
	return s.String()
}

// restore6 drops all IPv6 from the tenants.
func (b Base) restore6(hooked bool) string {
	var s script
	s.line("*raw")
	s.line(":%s - [0:0]", b.ipt(chainIPv6))
	s.line("-A %s -m devgroup --src-group 0x%x -j DROP", b.ipt(chainIPv6), b.Group)
	if !hooked {
		s.line("-I PREROUTING 1 -j %s", b.ipt(chainIPv6))
	}
	s.line("COMMIT")
	return s.String()
}

// iptAllowChain is the chain of one tenant's allowlist.
func (b Base) iptAllowChain(ip netip.Addr) string {
	return b.prefix() + "A-" + strings.ReplaceAll(ip.String(), ".", "_")
}

// iptTenant renders the tenant's allowlist for iptables-restore --noflush.
// dispatched says whether the rule that leads to it is there.
func (b Base) iptTenant(t Tenant, dispatched bool) string {
	r := rules{b: b}
	r.line("*raw")
	var list []string
	for _, rule := range t.Policy.Allow {
		match := "-d " + rule.Prefix.Masked().String()
		if rule.Proto != "" {
			match += " -p " + rule.Proto
		}
		if rule.Port != 0 {
			match += fmt.Sprintf(" -m %s --dport %d", rule.Proto, rule.Port)
		}
		list = append(list, match+" -g "+b.ipt(chainVouch))
	}
	r.chain(b.iptAllowChain(t.IP), append(list, "-g "+b.drop(Egress))...)
	if !dispatched {
		r.line("-A %s -s %s/32 -g %s", b.ipt(chainAllow), t.IP, b.iptAllowChain(t.IP))
	}
	r.line("COMMIT")
	return r.String()
}

// ipsetAdd renders the tenant's elements. What its policy takes away goes
// first.
func (b Base) ipsetAdd(t Tenant) string {
	var s script
	if t.Policy.Mode != Open {
		s.line("del -exist %s %s", b.ipset(setOpen), t.IP)
	}
	if t.Policy.Mode != Allow {
		s.line("del -exist %s %s", b.ipset(setAllow), t.IP)
	}
	switch t.Policy.Mode {
	case Open:
		s.line("add -exist %s %s", b.ipset(setOpen), t.IP)
	case Allow:
		s.line("add -exist %s %s", b.ipset(setAllow), t.IP)
	}
	for _, r := range packetReasons {
		s.line("add -exist %s %s", b.dropSet(r), t.IP)
	}
	s.line("add -exist %s %s,%s", b.ipset(setID), t.IP, strings.ToUpper(t.MAC.String()))
	return s.String()
}

// ipsetRemove renders the removal of the tenant's elements.
func (b Base) ipsetRemove(t Tenant) string {
	var s script
	for _, name := range b.ipsetNames() {
		s.line("del -exist %s %s", name, t.IP)
	}
	return s.String()
}

// arpRules are the tenant's ARP rules for ebtables: its own addresses pass,
// everything else from its port is dropped.
func (b Base) arpRules(t Tenant) [][]string {
	return [][]string{
		{"-p", "ARP", "-s", t.MAC.String(), "-i", t.TAP, "--arp-ip-src", t.IP.String(), "--arp-mac-src", t.MAC.String(), "--limit", "20/sec", "--limit-burst", "40", "-j", "ACCEPT"},
		{"-p", "ARP", "-s", t.MAC.String(), "-i", t.TAP, "--arp-ip-src", "0.0.0.0", "--arp-ip-dst", t.IP.String(), "--arp-mac-src", t.MAC.String(), "--limit", "20/sec", "--limit-burst", "40", "-j", "ACCEPT"},
		{"-p", "ARP", "-i", t.TAP, "-j", "DROP"},
	}
}
