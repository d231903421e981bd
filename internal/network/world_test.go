package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/network/probe"
)

// The world around the host under test. Behind the uplink is a namespace that
// is the internet, private networks and the cloud's metadata service at once;
// behind another bridge is a container with a published port.
const (
	uplinkAddr    = "203.0.113.2"
	routerAddr    = "203.0.113.1"
	outsideAddr   = "198.51.100.7"
	allowedAddr   = "198.51.100.8"
	dnsAddr       = "192.168.77.53"
	containerAddr = "172.17.0.2"
)

var privateAddrs = []string{"10.99.0.1", "172.20.0.1", "192.168.77.1", "100.64.9.9", "198.18.0.1"}

// namespace is a network namespace other than the test's own, held open by a
// process that sleeps in it.
type namespace struct{ pid int }

func newNamespace(t testing.TB) namespace {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig fires when the forking thread ends
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return namespace{cmd.Process.Pid}
}

// run executes one command per line inside the namespace.
func (n namespace) run(t testing.TB, lines string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		command(t, "nsenter", append([]string{"-t", fmt.Sprint(n.pid), "-n"}, strings.Fields(line)...)...)
	}
}

// do calls fn on a thread inside the namespace. Sockets that fn makes stay in
// it.
func (n namespace) do(t testing.TB, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// world is the host's surroundings.
type world struct {
	internet, container namespace
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{newNamespace(t), newNamespace(t)}
	commands(t, fmt.Sprintf(`
ip link add up0 mtu 1400 address 02:10:00:00:00:02 type veth peer name w0 mtu 1400 address 02:10:00:00:00:01 netns %d
ip addr add %s/24 dev up0
ip link set up0 up
ip neigh replace %s lladdr 02:10:00:00:00:01 nud permanent dev up0
ip link add dck0 type bridge
ip addr add 172.17.0.1/16 dev dck0
ip link set dck0 up
ip link add ctr0 master dck0 type veth peer name eth0 address 02:11:00:00:00:02 netns %d
ip link set ctr0 up
ip neigh replace %s lladdr 02:11:00:00:00:02 nud permanent dev dck0
`, w.internet.pid, uplinkAddr, routerAddr, w.container.pid, containerAddr))
	w.internet.run(t, `
ip link set lo up
ip addr add `+routerAddr+`/24 dev w0
ip addr add `+outsideAddr+`/32 dev lo
ip addr add `+allowedAddr+`/32 dev lo
ip addr add `+dnsAddr+`/32 dev lo
ip addr add 169.254.169.254/32 dev lo
ip addr add `+strings.Join(privateAddrs, "/32 dev lo\nip addr add ")+`/32 dev lo
ip link set w0 up
ip route add 10.50.0.0/16 via `+uplinkAddr+`
ip neigh replace `+uplinkAddr+` lladdr 02:10:00:00:00:02 nud permanent dev w0
`)
	w.container.run(t, `
ip link set lo up
ip addr add `+containerAddr+`/16 dev eth0
ip link set eth0 up
ip route add default via 172.17.0.1
`)
	for _, port := range []struct {
		in   namespace
		name string
	}{{namespace{os.Getpid()}, "up0"}, {w.internet, "w0"}, {namespace{os.Getpid()}, "ctr0"}, {w.container, "eth0"}} {
		eventually(t, port.name+" is up", func() bool {
			return strings.Contains(command(t, "nsenter", "-t", fmt.Sprint(port.in.pid), "-n", "ip", "link", "show", port.name), "state UP")
		})
	}
	command(t, "ip", "route", "add", "default", "via", routerAddr)
	// A port published as container engines do it, and a host that lets
	// loopback addresses be routed as kube-proxy does.
	load(t, `table ip published {
		chain prerouting {
			type nat hook prerouting priority dstnat; policy accept;
			ip daddr `+uplinkAddr+` tcp dport 8080 dnat to `+containerAddr+`:80
		}
	}`)
	write(t, "/proc/sys/net/ipv4/conf/all/route_localnet", "1")
	write(t, "/proc/sys/net/ipv4/conf/all/accept_source_route", "1")
	write(t, "/proc/sys/net/ipv4/conf/all/rp_filter", "0")
	write(t, "/proc/sys/net/ipv4/icmp_ratelimit", "0") // errors betray what reached the host
	return w
}

// load is for the rules of others.
func load(t testing.TB, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// guest is a tenant's inside: it holds the TAP as a VMM would.
type guest struct {
	Endpoint
	*probe.TAP
}

func testConfig(firewall string) Config {
	return Config{
		Bridge: "br-tenants", Table: "mvm", Subnet: netip.MustParsePrefix("10.50.0.1/24"),
		DNS: []netip.Addr{netip.MustParseAddr(dnsAddr)}, Firewall: firewall,
	}
}

// endpoint is the n-th tenant's.
func endpoint(cfg Config, n int, policy Policy) Endpoint {
	a := cfg.Subnet.Masked().Addr().As4()
	host := 10 + n
	a[2] += byte(host >> 8)
	a[3] = byte(host)
	return Endpoint{
		TAP: fmt.Sprintf("tap-t%d", n), MAC: net.HardwareAddr{0x02, 0xfc, 0, 0, byte(n >> 8), byte(n)},
		IP: netip.AddrFrom4(a), UID: 900000 + n, GID: 900000 + n, Policy: policy,
	}
}

func open(t testing.TB, ep Endpoint) *guest {
	t.Helper()
	tap, err := probe.OpenTAP(ep.TAP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tap.Close() })
	eventually(t, "the port is ready", func() bool { return ready(ep.TAP) })
	return &guest{ep, tap}
}

// attach makes a tenant part of the network and takes its VMM's place.
func attach(t testing.TB, cfg Config, ep Endpoint) *guest {
	t.Helper()
	if _, err := Attach(t.Context(), cfg, ep); err != nil {
		t.Fatal(err)
	}
	return open(t, ep)
}

func (g *guest) party() probe.Party { return probe.Party{MAC: g.MAC, IP: g.IP} }

// index is the link's number.
func index(t testing.TB, name string) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}

// watch starts a watcher that ends with the test.
func watch(t testing.TB, attacker, victim string, outside ...string) *probe.Watcher {
	t.Helper()
	places := map[int]probe.Place{index(t, attacker): probe.AtAttacker, index(t, victim): probe.AtVictim}
	for _, name := range append(outside, "up0", "ctr0") {
		places[index(t, name)] = probe.Out
	}
	w, err := probe.Watch(func(i int) probe.Place { return places[i] })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// scene is the attacks' view of a world.
func scene(t testing.TB, bridge string, gateway net.HardwareAddr, attacker, victim *guest, w *probe.Watcher) *probe.Scene {
	t.Helper()
	udp, tcp := w.Ports()
	before := redirects(t)
	s := &probe.Scene{
		Attacker: attacker.party(), Victim: victim.party(),
		Gateway: probe.Party{MAC: gateway, IP: netip.MustParseAddr("10.50.0.1")},
		Subnet:  netip.MustParsePrefix("10.50.0.0/24"),
		Outside: netip.MustParseAddr(outsideAddr), Metadata: netip.MustParseAddr("169.254.169.254"),
		HostAddrs:  []netip.Addr{netip.MustParseAddr(uplinkAddr), netip.MustParseAddr("172.17.0.1")},
		Containers: []netip.AddrPort{netip.MustParseAddrPort(containerAddr + ":80")},
		Published:  []netip.AddrPort{netip.MustParseAddrPort(uplinkAddr + ":8080")},
		Broadcasts: []netip.Addr{netip.MustParseAddr("203.0.113.255"), netip.MustParseAddr("172.17.255.255")},
		DNS:        []netip.Addr{netip.MustParseAddr(dnsAddr)},
		UDPPort:    udp, TCPPort: tcp,
		VictimSends: victim.Send, Translated: translated,
		Neighbours: func() map[netip.Addr]string { return neighbourTable(t, bridge) },
		Learned:    func() int { return learned(t, bridge) },
		Redirects:  func() int { return redirects(t) - before },
		HostSends:  func(payload []byte) error { return sendDatagram(victim.IP, payload) },
		Forget: func() error {
			return exec.Command("ip", "neigh", "flush", "to", victim.IP.String(), "dev", bridge).Run()
		},
	}
	for _, a := range privateAddrs {
		s.Private = append(s.Private, netip.MustParseAddr(a))
	}
	return s
}

func neighbourTable(t testing.TB, dev string) map[netip.Addr]string {
	t.Helper()
	list, err := netlink.NeighList(index(t, dev), netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	out := map[netip.Addr]string{}
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && len(n.HardwareAddr) == 6 {
			out[a.Unmap()] = n.HardwareAddr.String()
		}
	}
	return out
}

func learned(t testing.TB, bridge string) int {
	t.Helper()
	list, err := netlink.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range list {
		if e.MasterIndex == index(t, bridge) && e.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
			n++
		}
	}
	return n
}

func redirects(t testing.TB) int {
	t.Helper()
	n, err := icmpRedirects()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// receive waits for a frame that match accepts.
func (g *guest) receive(t testing.TB, what string, match func(frame []byte) bool) []byte {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); ; {
		frame, err := g.Receive(time.Until(deadline))
		if err != nil {
			t.Fatalf("%s: %s did not arrive: %v", g.Name(), what, err)
		}
		if match(frame) {
			return frame
		}
	}
}

// silent fails the test if a frame that match accepts is waiting.
func (g *guest) silent(t testing.TB, what string, match func(frame []byte) bool) {
	t.Helper()
	for {
		frame, err := g.Receive(time.Millisecond)
		if err != nil {
			return
		}
		if match(frame) {
			t.Fatalf("%s: got %s", g.Name(), what)
		}
	}
}

// send puts an IPv4 packet on the wire as a guest would: to the gateway.
func (g *guest) send(t testing.TB, cfg Config, packet []byte) {
	t.Helper()
	if err := g.Send(probe.Ethernet(cfg.gatewayMAC(), g.MAC, 0x0800, packet)); err != nil {
		t.Fatal(err)
	}
}

// at is an address with a port.
func at(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

// echoServer answers every datagram to port on the addresses of the internet,
// with the datagram itself. It returns the port.
func (w *world) echoServer(t testing.TB, port int) {
	t.Helper()
	var conn *net.UDPConn
	w.internet.do(t, func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	// Answers leave from the address that was asked.
	if raw, err := conn.SyscallConn(); err != nil {
		t.Fatal(err)
	} else if err := raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf, oob := make([]byte, 70_000), make([]byte, 128)
		for {
			n, oobn, _, from, err := conn.ReadMsgUDP(buf, oob)
			if err != nil {
				return
			}
			// The control message read is the one to send: its local address.
			if _, _, err := conn.WriteMsgUDP(buf[:n], oob[:oobn], from); err != nil && !strings.Contains(err.Error(), "closed") {
				return
			}
		}
	}()
}

// tenants are the guests as the firewall knows them.
func tenants(guests ...*guest) []firewall.Tenant {
	var out []firewall.Tenant
	for _, g := range guests {
		out = append(out, g.tenant())
	}
	return out
}
