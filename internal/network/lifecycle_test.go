package network

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/network/probe"
)

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
