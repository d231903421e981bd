package firewall

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/goldenfile"
)

func golden(t *testing.T, name, got string) {
	t.Helper()
	goldenfile.Check(t, filepath.Join("testdata", name), got)
}

var (
	testBase = Base{
		Table: "mvm", Group: 0x6d123456,
		Gateway: netip.MustParseAddr("10.50.0.1"), GatewayMAC: net.HardwareAddr{0x02, 0x50, 0, 0, 0, 1}, Subnet: netip.MustParsePrefix("10.50.0.0/24"),
		DNS:      []netip.Addr{netip.MustParseAddr("192.168.1.53"), netip.MustParseAddr("9.9.9.9")},
		Services: []Service{{"tcp", 8080}, {"udp", 123}},
	}
	acme = Tenant{TAP: "tap-acme", MAC: net.HardwareAddr{0x02, 0xfc, 0, 0, 0, 1}, IP: netip.MustParseAddr("10.50.0.10"), Policy: Policy{Mode: Open}}
	beta = Tenant{TAP: "tap-beta", MAC: net.HardwareAddr{0x02, 0xfc, 0, 0, 0, 2}, IP: netip.MustParseAddr("10.50.0.11"), Policy: Policy{Mode: Allow, Allow: []Rule{
		{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Proto: "tcp", Port: 443},
		{Prefix: netip.MustParsePrefix("10.1.2.3/32"), Proto: "udp"},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Proto: "tcp", Port: 80},
		{Prefix: netip.MustParsePrefix("203.0.113.9/32")},
	}}}
	gone = Tenant{TAP: "tap-gone", MAC: net.HardwareAddr{0x02, 0xfc, 0, 0, 0, 3}, IP: netip.MustParseAddr("10.50.0.12"), Policy: Policy{Mode: None}}
)

func TestNFTGolden(t *testing.T) {
	bare := testBase
	bare.DNS, bare.Services, bare.Open = nil, nil, true
	golden(t, "nft-base.nft", testBase.base())
	golden(t, "nft-base-open.nft", bare.base())
	golden(t, "nft-add-open.nft", testBase.assert()+testBase.tenantAdd(acme, false))
	golden(t, "nft-add-allow.nft", testBase.assert()+testBase.tenantAdd(beta, false))
	golden(t, "nft-change-to-none.nft", testBase.tenantAdd(gone, true))
	golden(t, "nft-remove.nft", strings.Join(testBase.tenantRemove(beta), ""))
	golden(t, "nft-replace.nft", strings.TrimPrefix(testBase.replacement(&table{}, chains("open", "base_0123", "allow_10_50_0_99", "allow_10_50_0_11", "of_another_version"), []Tenant{acme, beta}), testBase.base()))
}

func chains(names ...string) *table {
	t := &table{objects: map[string]string{}}
	for _, n := range names {
		t.objects["chain "+n] = ""
	}
	return t
}

func TestIPTablesGolden(t *testing.T) {
	docker := parseSave("*filter\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j MVM-FORWARD\n-A FORWARD -j DOCKER-USER\nCOMMIT\n*raw\n:MVM-ALLOW - [0:0]\nCOMMIT\n").own(testBase)
	golden(t, "ipset-base.ipset", testBase.ipsets())
	golden(t, "iptables-base.rules", testBase.restore(iptState{}))
	golden(t, "iptables-base-docker.rules", testBase.restore(docker))
	golden(t, "iptables-ipv6.rules", testBase.restore6(false))
	golden(t, "iptables-allow.rules", testBase.iptTenant(beta, false))
	golden(t, "ipset-add-open.ipset", testBase.ipsetAdd(acme))
	golden(t, "ipset-add-allow.ipset", testBase.ipsetAdd(beta))
	golden(t, "ipset-remove.ipset", testBase.ipsetRemove(acme))
	var arp strings.Builder
	for _, r := range testBase.arpRules(acme) {
		arp.WriteString(strings.Join(r, " ") + "\n")
	}
	golden(t, "ebtables-add.args", arp.String())
}

// TestStamp: whatever the base rules depend on is part of their stamp.
func TestStamp(t *testing.T) {
	seen := map[string]string{}
	for name, change := range map[string]func(*Base){
		"nothing":  func(*Base) {},
		"dns":      func(b *Base) { b.DNS = b.DNS[:1] },
		"services": func(b *Base) { b.Services = nil },
		"open":     func(b *Base) { b.Open = true },
		"subnet":   func(b *Base) { b.Subnet = netip.MustParsePrefix("10.50.0.0/16") },
		"mac":      func(b *Base) { b.GatewayMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9} },
		"group":    func(b *Base) { b.Group++ },
	} {
		b := testBase
		change(&b)
		if other, twice := seen[b.stamp()]; twice {
			t.Errorf("%s and %s have the same stamp", name, other)
		}
		seen[b.stamp()] = name
	}
}

func TestPermits(t *testing.T) {
	const tcp, udp, icmp = 6, 17, 1
	for _, c := range []struct {
		policy Policy
		dst    string
		proto  uint8
		port   uint16
		want   bool
	}{
		{acme.Policy, "9.9.9.9", tcp, 443, true},
		{acme.Policy, "10.1.2.3", tcp, 443, false},
		{acme.Policy, "100.64.1.1", tcp, 443, false},
		{acme.Policy, "169.254.169.254", tcp, 80, false},
		{gone.Policy, "9.9.9.9", udp, 53, false},
		{beta.Policy, "198.51.100.7", tcp, 443, true},
		{beta.Policy, "198.51.100.7", tcp, 22, false},
		{beta.Policy, "10.1.2.3", udp, 9, true},
		{beta.Policy, "10.1.2.3", tcp, 443, false},
		{beta.Policy, "8.8.8.8", tcp, 80, true},
		{beta.Policy, "169.254.169.254", tcp, 80, false},
		{beta.Policy, "203.0.113.9", icmp, 0, true},
	} {
		if got := c.policy.Permits(netip.MustParseAddr(c.dst), c.proto, c.port); got != c.want {
			t.Errorf("%s: %s proto %d port %d: got %v", c.policy.Mode, c.dst, c.proto, c.port, got)
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	anywhere := netip.MustParsePrefix("0.0.0.0/0")
	for _, bad := range []Policy{
		{}, {Mode: "closed"}, {Mode: Open, Allow: []Rule{{Prefix: anywhere}}},
		{Mode: Allow, Allow: []Rule{{}}},
		{Mode: Allow, Allow: []Rule{{Prefix: netip.MustParsePrefix("fd00::/8")}}},
		{Mode: Allow, Allow: []Rule{{Prefix: anywhere, Proto: "icmp"}}},
		{Mode: Allow, Allow: []Rule{{Prefix: anywhere, Port: 80}}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v must be refused", bad)
		}
	}
}

// TestObstaclePlaces: where the rule that accepts marked packets has to go.
func TestObstaclePlaces(t *testing.T) {
	accept := "-A FORWARD " + testBase.acceptMark() + "\n"
	for name, c := range map[string]struct {
		save, chain string
		place       int
	}{
		"nobody":             {":FORWARD ACCEPT [0:0]\n", "FORWARD", 0},
		"their own rules":    {":FORWARD ACCEPT [0:0]\n-A FORWARD -d 192.0.2.1/32 -j DROP\n", "FORWARD", 0},
		"policy":             {":FORWARD DROP [0:0]\n-A FORWARD -d 192.0.2.1/32 -j DROP\n", "FORWARD", 2},
		"policy, cleared":    {":FORWARD DROP [0:0]\n-A FORWARD -d 192.0.2.1/32 -j DROP\n" + accept, "FORWARD", 0},
		"last rule":          {":FORWARD ACCEPT [0:0]\n-A FORWARD -d 192.0.2.1/32 -j DROP\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n", "FORWARD", 2},
		"last rule, cleared": {":FORWARD ACCEPT [0:0]\n" + accept + "-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n", "FORWARD", 0},
		"too late":           {":FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\n" + accept, "FORWARD", 1},
		"ufw":                {":FORWARD DROP [0:0]\n-A FORWARD -j ufw-before-forward\n-A FORWARD -j ufw-after-forward\n-A FORWARD -j ufw-reject-forward\n", "FORWARD", 2},
		"docker":             {":FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n-A DOCKER-USER -j RETURN\n", "DOCKER-USER", 1},
		"docker, cleared":    {":DOCKER-USER - [0:0]\n" + strings.Replace(accept, "FORWARD", "DOCKER-USER", 1) + "-A DOCKER-USER -j RETURN\n", "DOCKER-USER", 0},
	} {
		if place, why := parseSave("*filter\n"+c.save).obstacle(testBase, c.chain); place != c.place {
			t.Errorf("%s: place %d (%s), want %d", name, place, why, c.place)
		}
	}
}
