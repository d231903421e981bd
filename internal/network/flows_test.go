package network

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/network/probe"
)

// TestReloadsLeakNothing (49): while the rules are replaced over and over, no
// hostile frame slips through and no honest one is lost.
func TestReloadsLeakNothing(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		newWorld(t)
		attacker := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: None}))
		victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
		w := watch(t, attacker.Name(), victim.Name())
		s := scene(t, cfg.Bridge, cfg.gatewayMAC(), attacker, victim, w)
		s.Nonce = []byte("never-to-be-seen")
		base, err := cfg.base()
		if err != nil {
			t.Fatal(err)
		}
		backend, err := cfg.backend(t.Context(), base)
		if err != nil {
			t.Fatal(err)
		}
		var frames [][]byte
		for _, a := range probe.Attacks() {
			if a.Frames != nil && a.First == nil && a.Number != 27 && a.Number != 29 && a.Number != 52 && a.Possible(s) {
				frames = append(frames, a.Frames(s)...)
			}
		}
		frames = append(frames, probe.Ethernet(cfg.gatewayMAC(), attacker.MAC, 0x0800,
			probe.UDP(netip.AddrPortFrom(attacker.IP, 5000), at(outsideAddr, 4242), s.Nonce)))
		stop, sent := make(chan struct{}), 0
		var sending sync.WaitGroup
		sending.Go(func() {
			for {
				for _, f := range frames {
					if err := attacker.Send(f); err != nil {
						t.Error(err)
						return
					}
					sent++
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		reloads := map[string]int{"nft": 30, "iptables": 8}[cfg.Firewall]
		for range reloads {
			if err := backend.Replace(t.Context(), base, tenants(attacker, victim)); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		sending.Wait()
		for _, sight := range w.Seen() {
			if bytes.Contains(sight.Frame, s.Nonce) {
				t.Fatalf("a frame came out at %s: %x", sight.Place, sight.Frame)
			}
		}
		t.Logf("%d hostile frames during %d reloads", sent, reloads)
	})
}

// TestTighteningCutsLiveFlows (51).
func TestTighteningCutsLiveFlows(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		w.echoServer(t, 4242)
		g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		exchange := func(text string) {
			g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5000), at(outsideAddr, 4242), []byte(text)))
		}
		exchange("while-open")
		g.receive(t, "the answer", func(f []byte) bool { return bytes.Contains(f, []byte("while-open")) })
		for _, p := range []Policy{
			{Mode: Allow, Allow: []Rule{{Prefix: netip.MustParsePrefix(outsideAddr + "/32"), Proto: "udp", Port: 4242}}},
			{Mode: Open},
			{Mode: None},
		} {
			g.Policy = p
			if err := Update(t.Context(), cfg, g.Endpoint); err != nil {
				t.Fatal(err)
			}
			clean(t, cfg, g.Endpoint)
			kept := strings.Contains(command(t, "conntrack", "-L", "-s", g.IP.String()), "dport=4242")
			exchange("then-" + p.Mode)
			answer := func(f []byte) bool { return bytes.Contains(f, []byte("then-"+p.Mode)) }
			if p.Mode != None {
				if !kept {
					t.Errorf("%s: the connection was cut although it is permitted", p.Mode)
				}
				g.receive(t, "the answer", answer)
				continue
			}
			if kept {
				t.Error("the connection lives on")
			}
			gatewayAnswersPings(t, nil, cfg, g)
			g.silent(t, "an answer in spite of the policy", answer)
		}
	})
}

// TestFlowsAreCapped (53): one tenant can't fill the host's connection table,
// and its neighbour does not notice that it tries.
func TestFlowsAreCapped(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		w.echoServer(t, 4242)
		greedy := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		modest := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
		for port := range 6000 {
			greedy.send(t, cfg, probe.UDP(netip.AddrPortFrom(greedy.IP, uint16(10000+port)), at(outsideAddr, 9), nil))
		}
		flows := strings.Count(command(t, "conntrack", "-L", "-s", greedy.IP.String()), "\n")
		if flows < 4000 || flows > 4200 {
			t.Errorf("it has %d connections, want about 4096", flows)
		}
		modest.send(t, cfg, probe.UDP(netip.AddrPortFrom(modest.IP, 5000), at(outsideAddr, 4242), []byte("modest")))
		modest.receive(t, "the answer", func(f []byte) bool { return bytes.Contains(f, []byte("modest")) })
	})
}

// TestFlowsAreCappedTogether: those to the gateway and those beyond it count as
// one tenant's.
func TestFlowsAreCappedTogether(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		newWorld(t)
		cfg.GatewayOpen = true
		greedy := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		for port := range 3000 {
			for _, to := range []netip.AddrPort{netip.AddrPortFrom(cfg.Gateway(), 9), at(outsideAddr, 9)} {
				greedy.send(t, cfg, probe.UDP(netip.AddrPortFrom(greedy.IP, uint16(10000+port)), to, nil))
			}
		}
		flows := strings.Count(command(t, "conntrack", "-L", "-s", greedy.IP.String()), "\n")
		if flows < 4000 || flows > 4200 {
			t.Errorf("it has %d connections, want about 4096", flows)
		}
	})
}

// TestUnsolicitedInbound (45): nobody outside opens a connection to a tenant.
func TestUnsolicitedInbound(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		for _, from := range []namespace{w.internet, w.container} {
			from.do(t, func() error {
				tcp, err := net.DialTimeout("tcp4", netip.AddrPortFrom(g.IP, 22).String(), 100*time.Millisecond)
				if err == nil {
					tcp.Close()
					return errors.New("a connection was opened")
				}
				return sendDatagram(g.IP, []byte("unsolicited"))
			})
		}
		hostConnects(t, w, cfg, g) // and yet the host does
		g.silent(t, "a packet from outside", func(f []byte) bool {
			return bytes.Contains(f, []byte("unsolicited")) || f[23] == 6 && !bytes.Equal(f[26:30], cfg.Gateway().AsSlice())
		})
		if n := dropCount(t, cfg, g.Endpoint, firewall.Inbound); n < 2 {
			t.Errorf("%d packets are counted as inbound", n)
		}
	})
}

// TestDropsAreCounted: each tenant's drops, by reason, and only its own.
func TestDropsAreCounted(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		newWorld(t)
		g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		other := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
		to := func(dst string, port uint16) []byte {
			return probe.UDP(netip.AddrPortFrom(g.IP, 5000), at(dst, port), []byte("dropped"))
		}
		packets := map[firewall.Reason][]byte{
			firewall.Neighbours: to(other.IP.String(), 9),
			firewall.Unroutable: to("169.254.169.254", 80),
			firewall.HostAddr:   to(uplinkAddr, 9),
			firewall.GatewayNo:  to("10.50.0.1", 9),
			firewall.PrivateNet: to("10.99.0.1", 9),
		}
		if cfg.Firewall == "nft" { // iptables can't tell whose port a frame came from
			packets[firewall.Spoofed] = probe.UDP(at("192.0.2.1", 9), at(outsideAddr, 9), nil)
		}
		for reason, packet := range packets {
			for range 3 {
				g.send(t, cfg, packet)
			}
			if n := dropCount(t, cfg, g.Endpoint, reason); n != 3 {
				t.Errorf("%s: %d packets are counted instead of 3", reason, n)
			}
		}
		if n := drops(t, cfg, other.Endpoint); n != 0 {
			t.Errorf("its neighbour has %d drops", n)
		}
		// The next tenant with this address starts from nothing.
		if err := Detach(t.Context(), cfg, g.Endpoint); err != nil {
			t.Fatal(err)
		}
		if _, err := Attach(t.Context(), cfg, g.Endpoint); err != nil {
			t.Fatal(err)
		}
		if n := drops(t, cfg, g.Endpoint); n != 0 {
			t.Errorf("it inherits %d drops", n)
		}
	})
}

func dropCount(t *testing.T, cfg Config, ep Endpoint, reason firewall.Reason) uint64 {
	t.Helper()
	status, err := Show(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return status.Drops[ep.TAP][reason]
}
