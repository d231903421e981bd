package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/network/probe"
)

// helper makes the test binary attach or detach one tenant and end, in place
// of running tests.
const helper = "MVM_NETWORK_HELPER"

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(helper)); len(words) == 3 {
		n, err := strconv.Atoi(words[1])
		if err == nil {
			cfg := testConfig(words[2])
			ep := endpoint(cfg, n, Policy{Mode: Open})
			switch words[0] {
			case "attach":
				_, err = Attach(context.Background(), cfg, ep)
			case "detach":
				err = Detach(context.Background(), cfg, ep)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helperCommand(verb string, n int, cfg Config) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", helper, verb, n, cfg.Firewall))
	return cmd
}

// eachFirewall runs the test in namespaces of its own for each backend.
func eachFirewall(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, firewall := range firewalls {
		t.Run(firewall, func(t *testing.T) {
			if isolated(t) {
				test(t, testConfig(firewall))
			}
		})
	}
}

// clean fails the test if Check finds a difference.
func clean(t *testing.T, cfg Config, eps ...Endpoint) {
	t.Helper()
	changes, err := Check(t.Context(), cfg, eps)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		t.Errorf("still to do: %s", c)
	}
}

// snapshot is everything of the host's network that mvm could have touched.
func snapshot(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-4", "addr"}, {"ip", "rule"}, {"ip", "-4", "route", "show", "table", "all"},
		{"ip", "neigh", "show", "nud", "permanent"}, {"bridge", "fdb"}, {"nft", "list", "ruleset"}, {"ipset", "list", "-n"},
	} {
		fmt.Fprintf(&out, "# %s\n%s", strings.Join(args, " "), command(t, args[0], args[1:]...))
	}
	return out.String()
}

func TestCleanUpLeavesNothing(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		before := snapshot(t)
		if _, err := CleanUp(t.Context(), cfg); err != nil {
			t.Fatalf("on a host without anything: %v", err)
		}
		for n := range 3 {
			if _, err := Attach(t.Context(), cfg, endpoint(cfg, n, Policy{Mode: Open})); err != nil {
				t.Fatal(err)
			}
		}
		changes, err := CleanUp(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) < 5 {
			t.Errorf("it reports only %v", changes)
		}
		if d := cmp.Diff(before, emptied(snapshot(t))); d != "" {
			t.Error(d)
		}
	})
}

// emptied drops what the host's tools leave behind by their nature: the tables
// with standard chains that iptables makes when it is first used.
func emptied(s string) string {
	var keep []string
	head, ruleset, _ := strings.Cut(s, "# nft list ruleset\n")
	ruleset, tail, _ := strings.Cut(ruleset, "# ipset list")
	for _, table := range strings.SplitAfter(ruleset, "\n}\n") {
		if strings.Contains(table, "\t\t") && strings.Count(table, "\n\t\t") > strings.Count(table, "\t\ttype ") || strings.Contains(strings.ToLower(table), "mvm") {
			keep = append(keep, table)
		}
	}
	return head + "# nft list ruleset\n" + strings.Join(keep, "") + "# ipset list" + tail
}

func TestAttachAndDetachCanBeRepeated(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		a, b := endpoint(cfg, 0, Policy{Mode: Open}), endpoint(cfg, 1, Policy{Mode: Allow, Allow: []Rule{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}})
		changes, err := Attach(t.Context(), cfg, a)
		if err != nil {
			t.Fatal(err)
		}
		want := []Change{{"bridge br-tenants", "add", "10.50.0.1/24"}, forwardingChange}
		if d := cmp.Diff(want, changes); d != "" {
			t.Errorf("changes of the host: %s", d)
		}
		for range 2 {
			for _, ep := range []Endpoint{a, b} {
				if changes, err := Attach(t.Context(), cfg, ep); err != nil || len(changes) > 0 {
					t.Fatal(changes, err)
				}
			}
			clean(t, cfg, a, b)
		}
		for range 2 {
			if err := Detach(t.Context(), cfg, b); err != nil {
				t.Fatal(err)
			}
			clean(t, cfg, a)
		}
	})
}

// TestDetachOfAHalf: what is left of a tenant goes, whatever of it went before.
func TestDetachOfAHalf(t *testing.T) {
	if !isolated(t) {
		return
	}
	cfg := testConfig("nft")
	a, b := endpoint(cfg, 0, Policy{Mode: Open}), endpoint(cfg, 1, Policy{Mode: Open})
	for _, gone := range []string{
		fmt.Sprintf("inet %s egress { %s }", cfg.Table, b.IP),
		fmt.Sprintf("bridge %s ident { %s . %s . %s }", cfg.Table, b.TAP, b.MAC, b.IP),
	} {
		for _, ep := range []Endpoint{a, b} {
			if _, err := Attach(t.Context(), cfg, ep); err != nil {
				t.Fatal(err)
			}
		}
		command(t, "nft", "delete element "+gone)
		if err := Detach(t.Context(), cfg, b); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, a)
	}
}

// TestAttachWithAnotherPolicy: a tenant is started again with a changed policy
// although the run before was killed and left its rules.
func TestAttachWithAnotherPolicy(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		rule := Rule{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Proto: "tcp", Port: 443}
		for _, p := range []Policy{{Mode: Open}, {Mode: None}, {Mode: Allow, Allow: []Rule{rule}}, {Mode: Allow}, {Mode: Open}} {
			ep := endpoint(cfg, 0, p)
			if _, err := Attach(t.Context(), cfg, ep); err != nil {
				t.Fatal(err)
			}
			clean(t, cfg, ep)
		}
	})
}

func TestConflicts(t *testing.T) {
	if !isolated(t) {
		return
	}
	cfg := testConfig("nft")
	ep := endpoint(cfg, 0, Policy{Mode: Open})
	for _, c := range []struct{ what, make, undo string }{
		{"a bridge of that name", "ip link add br-tenants type bridge", "ip link del br-tenants"},
		{"another device of that name", "ip link add br-tenants type veth peer name other", "ip link del br-tenants"},
		{"the host is in the subnet", "ip addr add 10.50.0.77/16 dev lo", "ip addr del 10.50.0.77/16 dev lo"},
		{"a route into the subnet", "ip route add 10.50.0.128/25 dev lo", "ip route del 10.50.0.128/25"},
		{"a foreign TAP of that name", "ip tuntap add tap-t0 mode tap", "ip link del tap-t0"},
	} {
		commands(t, c.make)
		_, err := Attach(t.Context(), cfg, ep)
		if conflict := (*ConflictError)(nil); !errors.As(err, &conflict) {
			t.Errorf("%s: got %v", c.what, err)
		} else {
			t.Log(err)
		}
		commands(t, c.undo)
	}
	if _, err := Attach(t.Context(), cfg, ep); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "show", "tap-t0").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUnknownPorts: ports of which the rules know nothing pass nothing, be they
// mvm's own without rules (47, 48, 54) or put on the bridge by somebody else.
func TestUnknownPorts(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		newWorld(t)
		victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
		unknown := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		base, err := cfg.base()
		if err != nil {
			t.Fatal(err)
		}
		backend, err := cfg.backend(t.Context(), base)
		if err != nil {
			t.Fatal(err)
		}
		if err := backend.Remove(t.Context(), base, unknown.tenant()); err != nil {
			t.Fatal(err)
		}
		unknowns := []*guest{unknown}
		if cfg.Firewall == "nft" { // iptables can't tell ports apart
			commands(t, `
ip tuntap add stray0 mode tap vnet_hdr
ip link set stray0 master br-tenants up
`)
			unknowns = append(unknowns, open(t, Endpoint{TAP: "stray0", MAC: unknown.MAC, IP: unknown.IP}))
		}
		w := watch(t, unknown.Name(), victim.Name())
		s := scene(t, cfg.Bridge, cfg.gatewayMAC(), unknown, victim, w)
		for _, g := range unknowns {
			// In its own name and in the victim's.
			for _, who := range []probe.Party{unknown.party(), victim.party()} {
				s.Attacker, s.Nonce = who, []byte("nonce-of-"+g.Name())
				for _, a := range probe.Attacks() {
					if a.Frames == nil || a.First != nil || a.Number == 27 || !a.Possible(s) {
						continue
					}
					if a.Number == 59 && g.Name() == "stray0" {
						continue // reaches the host as from any device that is not on a bridge
					}
					for _, frame := range a.Frames(s) {
						if err := g.Send(frame); err != nil {
							t.Fatal(err)
						}
					}
				}
				g.send(t, cfg, probe.UDP(netip.AddrPortFrom(who.IP, 5000), at(outsideAddr, 4242), s.Nonce))
				g.send(t, cfg, probe.ICMP(who.IP, cfg.Gateway(), 8, 0, 1, s.Nonce))
			}
			if err := s.HostSends([]byte("the-end-of-" + g.Name())); err != nil {
				t.Fatal(err)
			}
			victim.receive(t, "the host's datagram", func(f []byte) bool { return bytes.Contains(f, []byte("the-end-of-"+g.Name())) })
			for _, sight := range w.Seen() {
				if bytes.Contains(sight.Frame, s.Nonce) {
					t.Errorf("a frame of %s came out at %s: %x", g.Name(), sight.Place, sight.Frame)
				}
			}
		}
	})
}

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

// TestDetachUnderAVMM (54): a tenant that is removed while its VMM still holds
// the TAP can't send, nor receive what is meant for the next one.
func TestDetachUnderAVMM(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		w.echoServer(t, 4242)
		old := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		old.send(t, cfg, probe.UDP(netip.AddrPortFrom(old.IP, 5000), at(outsideAddr, 4242), []byte("first")))
		old.receive(t, "the answer", func(f []byte) bool { return bytes.Contains(f, []byte("first")) })
		if err := Detach(t.Context(), cfg, old.Endpoint); err != nil {
			t.Fatal(err)
		}
		if err := old.Send(make([]byte, 60)); err == nil {
			t.Error("the old VMM can still send")
		}
		if out := command(t, "conntrack", "-L"); strings.Contains(out, old.IP.String()) {
			t.Errorf("connections live on: %s", out)
		}
		clean(t, cfg)
	})
}

// TestKilledAnywhere: attach and detach are killed after random times; the
// next one always finds its way, and nothing is left in the end.
func TestKilledAnywhere(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		ep := endpoint(cfg, 0, Policy{Mode: Open})
		for range 15 {
			for _, verb := range []string{"attach", "detach"} {
				cmd := helperCommand(verb, 0, cfg)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(rand.N(40 * time.Millisecond)) // the random instant
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
			if _, err := Attach(t.Context(), cfg, ep); err != nil {
				t.Fatal(err)
			}
			clean(t, cfg, ep)
		}
		cmd := helperCommand("attach", 1, cfg)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if _, err := Reconcile(t.Context(), cfg, []Endpoint{ep}); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, ep)
	})
}

// TestManyAtOnce attaches and detaches 100 tenants from 100 processes.
func TestManyAtOnce(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		const many = 100
		all := func(verb string) {
			var wait sync.WaitGroup
			for n := range many {
				wait.Go(func() {
					if out, err := helperCommand(verb, n, cfg).CombinedOutput(); err != nil {
						t.Errorf("%s %d: %v: %s", verb, n, err, out)
					}
				})
			}
			wait.Wait()
		}
		start := time.Now()
		all("attach")
		t.Logf("%d attached in %s", many, time.Since(start).Round(time.Millisecond))
		var eps []Endpoint
		for n := range many {
			eps = append(eps, endpoint(cfg, n, Policy{Mode: Open}))
		}
		clean(t, cfg, eps...)
		start = time.Now()
		all("detach")
		t.Logf("%d detached in %s", many, time.Since(start).Round(time.Millisecond))
		clean(t, cfg)
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

// TestFailedTransaction (50): a change that the kernel refuses changes nothing.
func TestFailedTransaction(t *testing.T) {
	if !isolated(t) {
		return
	}
	cfg := testConfig("nft")
	ep := endpoint(cfg, 0, Policy{Mode: Open})
	if _, err := Attach(t.Context(), cfg, ep); err != nil {
		t.Fatal(err)
	}
	before := command(t, "nft", "list", "ruleset")
	bad := endpoint(cfg, 1, Policy{Mode: Open})
	bad.IP = netip.MustParseAddr("10.50.0.11")
	base, err := cfg.base()
	if err != nil {
		t.Fatal(err)
	}
	tenant := bad.tenant()
	tenant.Policy.Mode = "no such mode" // renders to a chain that does not exist
	if err := (firewall.NFT{}).Add(t.Context(), base, tenant); err == nil {
		t.Fatal("the kernel took it")
	}
	if d := cmp.Diff(before, command(t, "nft", "list", "ruleset")); d != "" {
		t.Error(d)
	}
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

// TestOnlyItsVMMOpensATAP: another tenant's VMM, or anybody else, gets nothing.
func TestOnlyItsVMMOpensATAP(t *testing.T) {
	if !isolated(t) {
		return
	}
	cfg := testConfig("nft")
	ep := endpoint(cfg, 0, Policy{Mode: Open})
	if _, err := Attach(t.Context(), cfg, ep); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]error{ep.UID: nil, ep.UID + 1: unix.EPERM} {
		if err := openAs(uid, ep.TAP); !errors.Is(err, want) {
			t.Errorf("uid %d: got %v, want %v", uid, err, want)
		}
	}
}

// openAs opens the TAP on a thread with another uid and no capabilities.
func openAs(uid int, tap string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			// Both are for this thread alone, unlike their namesakes in syscall.
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				done <- errno
				return
			}
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				done <- errno
				return
			}
			var req *unix.Ifreq
			if req, err = unix.NewIfreq(tap); err == nil {
				req.SetUint16(tapFlags)
				err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
			}
		}
		done <- err
	}()
	return <-done
}
