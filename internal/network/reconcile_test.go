package network

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/network/probe"
)

// TestReconcileRepairs breaks one thing after the other. Check names it and
// changes nothing, Reconcile repairs it.
func TestReconcileRepairs(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		open := endpoint(cfg, 0, Policy{Mode: Open})
		listed := endpoint(cfg, 1, Policy{Mode: Allow, Allow: []Rule{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Proto: "tcp", Port: 443}}})
		eps := []Endpoint{open, listed}
		for _, ep := range eps {
			if _, err := Attach(t.Context(), cfg, ep); err != nil {
				t.Fatal(err)
			}
		}
		damages := []struct{ how, object string }{
			{"ip link del tap-t0", "tap tap-t0"},
			{"ip link set tap-t0 down", "tap tap-t0"},
			{"ip link set tap-t0 nomaster", "tap tap-t0"},
			{"bridge link set dev tap-t0 isolated off", "tap tap-t0"},
			{"bridge link set dev tap-t0 learning on", "tap tap-t0"},
			{"bridge link set dev tap-t0 bcast_flood on", "tap tap-t0"},
			{"bridge link set dev tap-t0 locked off", "tap tap-t0"},
			{"bridge fdb del " + open.MAC.String() + " dev tap-t0 master", "tap tap-t0"},
			{"bridge fdb replace " + open.MAC.String() + " dev tap-t0 master static", "tap tap-t0"}, // not sticky
			{"bridge fdb add 02:00:00:00:00:99 dev tap-t0 master static", "tap tap-t0"},
			{"ip link set tap-t0 arp on", "tap tap-t0"},
			{"sysctl -qw net.ipv4.conf.tap-t0.rp_filter=0", "tap tap-t0"},
			{"ip neigh del 10.50.0.10 dev br-tenants", "tap tap-t0"},
			{"ip neigh replace 10.50.0.10 lladdr 02:00:00:00:00:01 nud permanent dev br-tenants", "tap tap-t0"},
			{"ip neigh replace 10.50.0.99 lladdr 02:00:00:00:00:01 nud permanent dev br-tenants", "neighbour 10.50.0.99"},
			{"ip addr del 10.50.0.1/24 dev br-tenants", "bridge br-tenants"},
			{"ip addr add 10.9.9.9/24 dev br-tenants", "bridge br-tenants"},
			{"ip link set br-tenants down", "bridge br-tenants"},
			{"ip link set br-tenants address 02:00:00:00:00:99", "bridge br-tenants"},
			{"sysctl -qw net.ipv4.conf.br-tenants.rp_filter=0", "bridge br-tenants"},
			{"sysctl -qw net.ipv6.conf.br-tenants.disable_ipv6=0", "bridge br-tenants"},
			{"sysctl -qw net.ipv4.ip_forward=0", "ipv4 forwarding"},
			{"ip rule del pref 50", "bridge br-tenants"},
			{"ip link del br-tenants", "bridge br-tenants"},
		}
		if cfg.Firewall == "nft" {
			damages = append(damages, []struct{ how, object string }{
				{"nft flush ruleset", "firewall rules (nft)"},
				{"nft delete table bridge mvm", "firewall rules (nft)"},
				{"nft flush chain inet mvm new_from_tenant", "firewall rules (nft)"},
				{"nft insert rule inet mvm forward accept", "firewall rules (nft)"},
				{"nft add chain inet mvm extra", "firewall rules (nft)"},
				{"nft flush set bridge mvm ident", "rules of tap-t0"},
				{"nft add element bridge mvm ident { tap-zz . 02:00:00:00:00:77 . 10.50.0.77 }", "rules of tap-zz"},
				{"nft add rule inet mvm allow_10_50_0_11 accept", "rules of tap-t1"},
				{"nft flush map inet mvm egress", "rules of tap-t0"},
			}...)
		} else {
			damages = append(damages, []struct{ how, object string }{
				{"iptables -F", "firewall rules (iptables)"},
				{"iptables -t raw -F PREROUTING", "firewall rules (iptables)"},
				{"iptables -I FORWARD -j ACCEPT", "firewall rules (iptables)"},
				{"iptables -t nat -F MVM-NAT", "firewall rules (iptables)"},
				{"ipset flush mvm-open", "rules of tap-t0"},
				{"ipset flush mvm-id", "rules of tap-t0"},
				{"ipset add mvm-open 10.50.0.77", "rules of unknown"},
				{"iptables -t raw -F MVM-A-10_50_0_11", "rules of tap-t1"},
				{"ebtables -t nat -F MVM-ARP", "rules of tap-t0"},
				{"ebtables -t nat -F PREROUTING", "firewall rules (iptables)"},
			}...)
		}
		for _, d := range damages {
			commands(t, d.how)
			checked, err := Check(t.Context(), cfg, eps)
			if err != nil {
				t.Fatalf("%s: %v", d.how, err)
			}
			if !names(checked, d.object) {
				t.Errorf("%s: check names %v, not %s", d.how, checked, d.object)
			}
			changes, err := Reconcile(t.Context(), cfg, eps)
			if err != nil {
				t.Fatalf("%s: %v", d.how, err)
			}
			if diff := cmp.Diff(checked, changes); diff != "" { // so Check had changed nothing
				t.Errorf("%s: reconcile does not do what check announced: %s", d.how, diff)
			}
			if changes, err = Check(t.Context(), cfg, eps); err != nil || len(changes) > 0 {
				t.Fatalf("%s: afterwards %v, %v", d.how, changes, err)
			}
		}
	})
}

func names(changes []Change, object string) bool {
	for _, c := range changes {
		if c.Object == object {
			return true
		}
	}
	return false
}

// TestReconcileLeavesWhatPasses: an endpoint that somebody else attaches or
// detaches just now is kept whole where it is there, and not made where not.
func TestReconcileLeavesWhatPasses(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		kept, passing := endpoint(cfg, 0, Policy{Mode: Open}), endpoint(cfg, 1, Policy{Mode: Open})
		passing.Passing = true
		if _, err := Attach(t.Context(), cfg, kept); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, kept, passing) // before it is attached
		if _, err := Attach(t.Context(), cfg, passing); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, kept, passing)
		commands(t, "ip link set tap-t1 nomaster")
		if changes, err := Reconcile(t.Context(), cfg, []Endpoint{kept, passing}); err != nil || !names(changes, "tap tap-t1") {
			t.Errorf("what it has is not restored: %v, %v", changes, err)
		}
		if err := Detach(t.Context(), cfg, passing); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, kept, passing)
	})
}

// TestReconcileSweeps removes what runs left that were killed, and ports that
// somebody else put on the bridge.
func TestReconcileSweeps(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		kept, orphan := endpoint(cfg, 0, Policy{Mode: Open}), endpoint(cfg, 1, Policy{Mode: Allow})
		for _, ep := range []Endpoint{kept, orphan} {
			if _, err := Attach(t.Context(), cfg, ep); err != nil {
				t.Fatal(err)
			}
		}
		commands(t, `
ip tuntap add other0 mode tap
ip link set other0 master br-tenants
ip tuntap add tap-mine mode tap
`)
		changes, err := Reconcile(t.Context(), cfg, []Endpoint{kept})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"tap tap-t1", "port other0", "neighbour 10.50.0.11"} {
			if !names(changes, want) {
				t.Errorf("%s is not among %v", want, changes)
			}
		}
		clean(t, cfg, kept)
		if exec.Command("ip", "link", "show", "tap-t1").Run() == nil {
			t.Error("the orphan is still there")
		}
		for _, others := range []string{"other0", "tap-mine"} {
			if exec.Command("ip", "link", "show", others).Run() != nil {
				t.Errorf("%s, which is not mvm's, is gone", others)
			}
		}
	})
}

// TestReconcileEndsWithNothing: what is left of a network whose bridge somebody
// removed.
func TestReconcileEndsWithNothing(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		before := snapshot(t)
		if _, err := Attach(t.Context(), cfg, endpoint(cfg, 0, Policy{Mode: Open})); err != nil {
			t.Fatal(err)
		}
		commands(t, "ip link del br-tenants\nip link del tap-t0")
		if _, err := Reconcile(t.Context(), cfg, nil); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg)
		if d := cmp.Diff(before, emptied(snapshot(t))); d != "" {
			t.Error(d)
		}
	})
}

// TestReconcileStartsFromNothing: after a reboot everything is made by
// reconciling alone.
func TestReconcileStartsFromNothing(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		if changes, err := Reconcile(t.Context(), cfg, nil); err != nil || len(changes) > 0 {
			t.Fatalf("without tenants: %v, %v", changes, err)
		}
		eps := []Endpoint{endpoint(cfg, 0, Policy{Mode: Open}), endpoint(cfg, 1, Policy{Mode: None})}
		if _, err := Reconcile(t.Context(), cfg, eps); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, eps...)
	})
}

// TestFlushedRules: while all rules are gone, the layers that need no netfilter
// hold; reconciling brings the rules back.
func TestFlushedRules(t *testing.T) {
	if !isolated(t) {
		return
	}
	newWorld(t)
	cfg := testConfig("nft")
	attacker := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
	victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
	w := watch(t, attacker.Name(), victim.Name())
	s := scene(t, cfg.Bridge, cfg.gatewayMAC(), attacker, victim, w)
	command(t, "nft", "flush", "ruleset")
	s.Published = nil // its redirection is flushed, too
	// What only the rules hold back: a neighbour's address as the source, the
	// host's own services and tunnels, its neighbour table, a pace for ARP, and ICMP errors.
	needsRules := map[int]bool{23: true, 29: true, 31: true, 34: true, 35: true, 36: true, 46: true, 52: true, 57: true, 58: true, 62: true, 65: true}
	results, err := probe.Run(t.Context(), s, attacker.TAP, w, probe.Attacks())
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, r := range results {
		if r.Blocked {
			held++
		} else if r.Skipped == "" && !needsRules[r.Number] {
			t.Errorf("without rules, attack %d (%s) got through", r.Number, r.Name)
		}
	}
	t.Logf("%d of %d attacks are held back without netfilter", held, len(results))
	if _, err := Reconcile(t.Context(), cfg, []Endpoint{attacker.Endpoint, victim.Endpoint}); err != nil {
		t.Fatal(err)
	}
	s = scene(t, cfg.Bridge, cfg.gatewayMAC(), attacker, victim, w)
	s.Published = nil
	attackAll(t, "after reconciling", s, attacker, w)
}

// TestBridgeNetfilter: some hosts hand bridged frames to iptables.
func TestBridgeNetfilter(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		commands(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-arptables=1 net.bridge.bridge-nf-call-ip6tables=1")
		attacker := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
		udpAndBack(t, w, cfg, attacker)
		gatewayAnswersPings(t, w, cfg, attacker)
		hostConnects(t, w, cfg, attacker)
		watcher := watch(t, attacker.Name(), victim.Name())
		attackAll(t, "open", scene(t, cfg.Bridge, cfg.gatewayMAC(), attacker, victim, watcher), attacker, watcher)
	})
}

// TestSeveralBridges: beyond 1000 tenants, the next ones are on another bridge
// with the same gateway.
func TestSeveralBridges(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		cfg.Subnet = netip.MustParsePrefix("10.50.0.1/16")
		first := attach(t, cfg, endpoint(cfg, 5, Policy{Mode: Open}))
		second := attach(t, cfg, endpoint(cfg, 1500, Policy{Mode: Open}))
		third := attach(t, cfg, endpoint(cfg, 2500, Policy{Mode: Open}))
		for name, g := range map[string]*guest{"br-tenants": first, "br-tenants-2": second, "br-tenants-3": third} {
			if got := cfg.BridgeOf(g.IP); got != name {
				t.Errorf("%s is on %s", g.IP, got)
			}
		}
		for _, g := range []*guest{first, second, third} {
			gatewayAnswersARP(t, w, cfg, g)
			gatewayAnswersPings(t, w, cfg, g)
			hostConnects(t, w, cfg, g)
		}
		udpAndBack(t, w, cfg, third)
		clean(t, cfg, first.Endpoint, second.Endpoint, third.Endpoint)
		watcher := watch(t, second.Name(), first.Name())
		s := scene(t, cfg.BridgeOf(second.IP), cfg.gatewayMAC(), second, first, watcher)
		s.Subnet = cfg.Subnet.Masked()
		attackAll(t, "across bridges", s, second, watcher)
		if err := Detach(t.Context(), cfg, second.Endpoint); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, first.Endpoint, third.Endpoint)
	})
}

// TestTwoScopes: two roots on one host keep out of each other's way.
func TestTwoScopes(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		other := cfg
		other.Bridge, other.Table, other.Subnet = "br-0123456789", "mvm_0123456789", netip.MustParsePrefix("10.51.0.1/24")
		a := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		ep := endpoint(other, 1, Policy{Mode: Open})
		ep.TAP = "tap_0123456789a"
		b := attach(t, other, ep)
		udpAndBack(t, w, cfg, a)
		gatewayAnswersPings(t, w, other, b)
		clean(t, cfg, a.Endpoint)
		clean(t, other, b.Endpoint)
		watcher := watch(t, a.Name(), b.Name())
		s := scene(t, cfg.Bridge, cfg.gatewayMAC(), a, b, watcher)
		attackAll(t, "across scopes", s, a, watcher)
		// Also where a policy allows the other's subnet, whichever came last, and
		// on hosts that let marks decide which way is back, as wg-quick does.
		write(t, "/proc/sys/net/ipv4/conf/all/src_valid_mark", "1")
		for _, pair := range [][2]*guest{{a, b}, {b, a}} {
			from, to := pair[0], pair[1]
			of := map[*guest]Config{a: cfg, b: other}[from]
			from.Policy = Policy{Mode: Allow, Allow: []Rule{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}}
			if err := Update(t.Context(), of, from.Endpoint); err != nil {
				t.Fatal(err)
			}
			nonce := []byte("across scopes from " + from.Name())
			from.send(t, of, probe.UDP(netip.AddrPortFrom(from.IP, 5000), netip.AddrPortFrom(to.IP, 5000), nonce))
			gatewayAnswersPings(t, w, of, from) // what was sent before has been dealt with
			to.silent(t, "a packet from another root's tenant", func(f []byte) bool { return bytes.Contains(f, nonce) })
		}
		if _, err := CleanUp(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		clean(t, other, b.Endpoint)
		gatewayAnswersPings(t, w, other, b)
		if out := command(t, "ip", "link"); strings.Contains(out, "br-tenants") {
			t.Error("the bridge is still there")
		}
	})
}

// TestOtherVersion: rules of another version of mvm are replaced, be it in
// place when the next tenant starts, or as a whole.
func TestOtherVersion(t *testing.T) {
	if !isolated(t) {
		return
	}
	newWorld(t)
	cfg := testConfig("nft")
	for _, c := range []struct{ other, then string }{
		{"add chain inet mvm old { type filter hook forward priority -5; policy drop; }", "attach"},
		{"add chain inet mvm old { type filter hook forward priority -5; policy drop; }", "reconcile"},
		{"add set inet mvm flows { type ipv6_addr; }", "reconcile"},
		{"add chain bridge mvm old; add chain inet mvm base_0123456789abcdef", "attach"},
	} {
		load(t, "add table inet mvm\nadd table bridge mvm\n"+strings.ReplaceAll(c.other, "; add", "\nadd"))
		ep := endpoint(cfg, 0, Policy{Mode: Open})
		var err error
		if c.then == "attach" {
			_, err = Attach(t.Context(), cfg, ep)
		} else {
			_, err = Reconcile(t.Context(), cfg, []Endpoint{ep})
		}
		if err != nil {
			t.Fatalf("%s: %v", c.other, err)
		}
		clean(t, cfg, ep)
		if _, err := CleanUp(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	load(t, "add table inet mvm\nadd set inet mvm flows { type ipv6_addr; }")
	if _, err := Attach(t.Context(), cfg, endpoint(cfg, 0, Policy{Mode: Open})); !errors.Is(err, firewall.ErrOtherVersion) {
		t.Errorf("got %v", err)
	}
}

// TestTakenMAC: a VMM that its guest has taken over gives its TAP the MAC
// address of a neighbour. It does not receive what is the neighbour's, and
// reconciling gives the neighbour its network back.
func TestTakenMAC(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
		attacker := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		if err := takeMAC(attacker, victim.MAC); err != nil {
			t.Fatal(err)
		}
		hello := func(text string) func([]byte) bool {
			if err := sendDatagram(victim.IP, []byte(text)); err != nil {
				t.Fatal(err)
			}
			return func(f []byte) bool { return bytes.Contains(f, []byte(text)) }
		}
		stolen := hello("while-taken")
		if cfg.Firewall == "nft" { // iptables sees no ports
			attacker.silent(t, "what is its neighbour's", stolen)
		}
		eps := []Endpoint{attacker.Endpoint, victim.Endpoint}
		changes, err := Check(t.Context(), cfg, eps)
		if err != nil || !names(changes, "tap "+attacker.Name()) {
			t.Errorf("check finds %v, %v", changes, err)
		}
		if _, err := Reconcile(t.Context(), cfg, eps); err != nil {
			t.Fatal(err)
		}
		clean(t, cfg, eps...)
		victim.receive(t, "what is its own", hello("given-back"))
		if err := attacker.Send(make([]byte, 60)); err == nil {
			t.Error("the VMM can still send")
		}
	})
}

// takeMAC does what a VMM without any privilege can do with its descriptor.
func takeMAC(g *guest, mac net.HardwareAddr) error {
	request := struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		mac    [22]byte
	}{family: unix.ARPHRD_ETHER}
	copy(request.mac[:], mac)
	var errno syscall.Errno
	err := g.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&request)))
	})
	if errno != 0 {
		return errno
	}
	return err
}

// TestForwardingEntriesOfVLANs: kernels whose bridges know VLANs list a port's
// entry with and without the VLAN that it begins in. This one may know none.
func TestForwardingEntriesOfVLANs(t *testing.T) {
	mac, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	own := netlink.Neigh{HardwareAddr: mac, Flags: ntfSticky}
	inVLAN := own
	inVLAN.Vlan = 1
	if got := forwardingFaults([]netlink.Neigh{inVLAN, own}, mac); len(got) > 0 {
		t.Errorf("the entry and its VLAN's: %q", got)
	}
	for _, list := range [][]netlink.Neigh{{}, {{HardwareAddr: mac}}, {own, {HardwareAddr: other}}, {own, {HardwareAddr: other}, {HardwareAddr: other, Flags: ntfSticky, Vlan: 1}}} {
		if got := forwardingFaults(list, mac); len(got) != 1 {
			t.Errorf("%+v: %q, want one fault", list, got)
		}
	}
}
