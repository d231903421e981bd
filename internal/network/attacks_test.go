package network

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/network/probe"
)

var firewalls = []string{"nft", "iptables"}

// TestAttacksOnAPlainBridge shows that every attack of the list works where
// nobody defends: the tests that follow can fail.
func TestAttacksOnAPlainBridge(t *testing.T) {
	if !isolated(t) {
		return
	}
	newWorld(t)
	const gatewayMAC = "02:50:00:00:00:01"
	commands(t, `
ip link add plain0 address `+gatewayMAC+` type bridge mcast_snooping 0
sysctl -qw net.ipv6.conf.plain0.accept_dad=0
ip addr add 10.50.0.1/24 dev plain0
ip link set plain0 up
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.plain0.accept_redirects=1 net.ipv4.conf.plain0.accept_source_route=1 net.ipv4.conf.plain0.rp_filter=0
sysctl -qw net.ipv4.neigh.plain0.locktime=0
`)
	load(t, `table ip nat {
		chain postrouting {
			type nat hook postrouting priority srcnat; policy accept;
			ip saddr 10.50.0.0/24 oifname != "plain0" masquerade
		}
	}`)
	cfg := testConfig("")
	var guests []*guest
	for n := range 2 {
		ep := endpoint(cfg, n, Policy{Mode: Open})
		commands(t, fmt.Sprintf(`
ip tuntap add %[1]s mode tap vnet_hdr
ip link set %[1]s master plain0 up
sysctl -qw net.ipv4.conf.%[1]s.rp_filter=0
`, ep.TAP))
		guests = append(guests, open(t, ep))
	}
	mac, err := net.ParseMAC(gatewayMAC)
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, guests[0].Name(), guests[1].Name())
	s := scene(t, "plain0", mac, guests[0], guests[1], w)
	s.Allowed = netip.MustParseAddr(allowedAddr)
	// Before each attack the host has met both guests, and the bridge none.
	s.Reset = func() error {
		for _, args := range [][]string{
			{"link", "set", "plain0", "type", "bridge", "fdb_flush"},
			{"neigh", "flush", "dev", "plain0"},
			{"neigh", "replace", guests[0].IP.String(), "lladdr", guests[0].MAC.String(), "nud", "stale", "dev", "plain0"},
			{"neigh", "replace", guests[1].IP.String(), "lladdr", guests[1].MAC.String(), "nud", "stale", "dev", "plain0"},
		} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %v: %w: %s", args, err, out)
			}
		}
		return nil
	}
	go guests[1].AnswerARP(guests[1].party())
	eventually(t, "the bridge has its IPv6 address", func() bool {
		return strings.Contains(command(t, "ip", "-6", "addr", "show", "dev", "plain0", "-tentative"), "fe80::")
	})
	results, err := probe.Run(t.Context(), s, guests[0].TAP, w, probe.Attacks())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Blocked || r.Skipped != "" {
			t.Errorf("attack %d (%s) does not work even on a plain bridge: %+v", r.Number, r.Name, r)
		}
	}
}

// TestAttacks runs the list against mvm's network.
func TestAttacks(t *testing.T) {
	for _, firewall := range firewalls {
		t.Run(firewall, func(t *testing.T) {
			if !isolated(t) {
				return
			}
			newWorld(t)
			cfg := testConfig(firewall)
			attacker := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
			victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
			w := watch(t, attacker.Name(), victim.Name())
			s := scene(t, cfg.Bridge, cfg.gatewayMAC(), attacker, victim, w)
			attackAll(t, "open", s, attacker, w)

			allowed := netip.MustParseAddr(allowedAddr)
			attacker.Policy = Policy{Mode: Allow, Allow: []Rule{{Prefix: netip.PrefixFrom(allowed, 32), Proto: "tcp", Port: 443}}}
			if err := Update(t.Context(), cfg, attacker.Endpoint); err != nil {
				t.Fatal(err)
			}
			s.Allowed = allowed
			attackAll(t, "allow", s, attacker, w)
		})
	}
}

func attackAll(t *testing.T, policy string, s *probe.Scene, attacker *guest, w *probe.Watcher) {
	t.Helper()
	results, err := probe.Run(t.Context(), s, attacker.TAP, w, probe.Attacks())
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, r := range results {
		if !r.Blocked && r.Skipped == "" {
			t.Errorf("policy %s: attack %d (%s) got through", policy, r.Number, r.Name)
		}
		if r.Skipped == "" {
			tried++
		}
	}
	t.Logf("policy %s: %d attacks tried", policy, tried)
}
