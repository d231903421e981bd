package network

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/auser/mvm/internal/network/probe"
)

// TestWhatMustWork is the other half of isolation: a guest can do its work.
func TestWhatMustWork(t *testing.T) {
	for _, firewall := range firewalls {
		t.Run(firewall, func(t *testing.T) {
			if !isolated(t) {
				return
			}
			w := newWorld(t)
			cfg := testConfig(firewall)
			cfg.GatewayPorts = []Service{{Proto: "tcp", Port: 7000}}
			g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
			for _, part := range []struct {
				name string
				try  func(*testing.T, *world, Config, *guest)
			}{
				{"the gateway answers ARP", gatewayAnswersARP},
				{"the gateway answers pings", gatewayAnswersPings},
				{"a probe for its own address passes", probeForOwnAddress},
				{"UDP to the internet and back", udpAndBack},
				{"TCP to the internet and back", tcpAndBack},
				{"the host connects to the tenant", hostConnects},
				{"a service that the gateway offers", gatewayService},
				{"DNS on a private address", privateDNS},
				{"the host says that a packet is too big", fragNeededFromHost},
				{"the internet says that a packet is too big", fragNeededFromInternet},
				{"a private range on the allowlist", allowedPrivate},
			} {
				t.Run(part.name, func(t *testing.T) { part.try(t, w, cfg, g) })
			}
		})
	}
}

func gatewayAnswersARP(t *testing.T, _ *world, cfg Config, g *guest) {
	for _, dst := range []net.HardwareAddr{{255, 255, 255, 255, 255, 255}, cfg.gatewayMAC()} {
		ask := probe.ARP(1, g.MAC, g.IP, make(net.HardwareAddr, 6), cfg.Gateway())
		if err := g.Send(probe.Ethernet(dst, g.MAC, 0x0806, ask)); err != nil {
			t.Fatal(err)
		}
		answer := probe.ARP(2, cfg.gatewayMAC(), cfg.Gateway(), g.MAC, g.IP)
		g.receive(t, "the gateway's ARP answer", func(f []byte) bool { return bytes.Contains(f, answer) })
	}
}

func gatewayAnswersPings(t *testing.T, _ *world, cfg Config, g *guest) {
	g.send(t, cfg, probe.ICMP(g.IP, cfg.Gateway(), 8, 0, 0x00010001, []byte("ping-the-gateway")))
	g.receive(t, "the gateway's echo", func(f []byte) bool { return f[23] == 1 && f[34] == 0 && bytes.Contains(f, []byte("ping-the-gateway")) })
}

// probeForOwnAddress is what guests do before they use an address: nobody may
// answer, and nothing may count it as spoofing.
func probeForOwnAddress(t *testing.T, _ *world, cfg Config, g *guest) {
	before := drops(t, cfg, g.Endpoint)
	ask := probe.ARP(1, g.MAC, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), g.IP)
	if err := g.Send(probe.Ethernet(net.HardwareAddr{255, 255, 255, 255, 255, 255}, g.MAC, 0x0806, ask)); err != nil {
		t.Fatal(err)
	}
	gatewayAnswersPings(t, nil, cfg, g)
	if after := drops(t, cfg, g.Endpoint); after != before {
		t.Errorf("dropped frames went from %d to %d", before, after)
	}
}

// drops is the sum of the tenant's counters.
func drops(t *testing.T, cfg Config, ep Endpoint) (sum uint64) {
	t.Helper()
	status, err := Show(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range status.Drops[ep.TAP] {
		sum += n
	}
	return sum
}

func udpAndBack(t *testing.T, w *world, cfg Config, g *guest) {
	w.echoServer(t, 4242)
	g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5000), at(outsideAddr, 4242), []byte("over-and-back")))
	f := g.receive(t, "the answer", func(f []byte) bool { return bytes.Contains(f, []byte("over-and-back")) })
	if src := netip.AddrFrom4([4]byte(f[26:30])); src.String() != outsideAddr {
		t.Errorf("the answer comes from %s", src)
	}
}

func tcpAndBack(t *testing.T, w *world, cfg Config, g *guest) {
	var server net.Listener
	w.internet.do(t, func() (err error) {
		server, err = net.Listen("tcp4", ":4343")
		return err
	})
	defer server.Close()
	from, to := netip.AddrPortFrom(g.IP, 5001), at(outsideAddr, 4343)
	g.send(t, cfg, probe.TCP(from, to, probe.SYN, 100, 0, nil))
	seq := synAck(t, g, to, from)
	g.send(t, cfg, probe.TCP(from, to, probe.ACK, 101, seq+1, []byte("hello")))
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("the server got %q, %v", buf, err)
	}
	if host, _, _ := net.SplitHostPort(conn.RemoteAddr().String()); host != uplinkAddr {
		t.Errorf("the server sees the tenant as %s, want the host's address %s", host, uplinkAddr)
	}
}

// synAck waits for the answer to a SYN and returns its sequence number.
func synAck(t *testing.T, g *guest, from, to netip.AddrPort) uint32 {
	t.Helper()
	f := g.receive(t, "SYN-ACK", func(f []byte) bool { return isTCP(f, from, to) && f[47] == probe.SYN|probe.ACK })
	return binary.BigEndian.Uint32(f[38:])
}

func isTCP(f []byte, from, to netip.AddrPort) bool {
	return len(f) >= 54 && f[23] == 6 &&
		netip.AddrFrom4([4]byte(f[26:30])) == from.Addr() && netip.AddrFrom4([4]byte(f[30:34])) == to.Addr() &&
		binary.BigEndian.Uint16(f[34:]) == from.Port() && binary.BigEndian.Uint16(f[36:]) == to.Port()
}

func hostConnects(t *testing.T, _ *world, cfg Config, g *guest) {
	connected := make(chan error, 1)
	go func() {
		conn, err := net.DialTimeout("tcp4", netip.AddrPortFrom(g.IP, 22).String(), 3*time.Second)
		if err == nil {
			conn.Close()
		}
		connected <- err
	}()
	f := g.receive(t, "the host's SYN", func(f []byte) bool { return f[23] == 6 && f[47] == probe.SYN })
	port := binary.BigEndian.Uint16(f[34:])
	seq := binary.BigEndian.Uint32(f[38:])
	g.send(t, cfg, probe.TCP(netip.AddrPortFrom(g.IP, 22), netip.AddrPortFrom(cfg.Gateway(), port), probe.SYN|probe.ACK, 7, seq+1, nil))
	if err := <-connected; err != nil {
		t.Fatal(err)
	}
}

func gatewayService(t *testing.T, _ *world, cfg Config, g *guest) {
	server, err := net.Listen("tcp4", ":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	from, to := netip.AddrPortFrom(g.IP, 5002), netip.AddrPortFrom(cfg.Gateway(), 7000)
	g.send(t, cfg, probe.TCP(from, to, probe.SYN, 100, 0, nil))
	synAck(t, g, to, from)
}

func privateDNS(t *testing.T, w *world, cfg Config, g *guest) {
	w.echoServer(t, 53)
	restore := g.Policy
	g.Policy = Policy{Mode: None}
	defer func() { g.Policy = restore }()
	if err := Update(t.Context(), cfg, g.Endpoint); err != nil {
		t.Fatal(err)
	}
	g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5003), at(dnsAddr, 53), []byte("a-dns-question")))
	g.receive(t, "the DNS answer", func(f []byte) bool { return bytes.Contains(f, []byte("a-dns-question")) })
	g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5003), at(outsideAddr, 53), []byte("another-question")))
	gatewayAnswersPings(t, w, cfg, g)
	g.silent(t, "an answer of a server that is not configured", func(f []byte) bool { return bytes.Contains(f, []byte("another-question")) })
	if err := Update(t.Context(), cfg, Endpoint{TAP: g.Endpoint.TAP, MAC: g.MAC, IP: g.IP, Policy: restore}); err != nil {
		t.Fatal(err)
	}
}

// fragNeededFromHost sends more than the uplink takes at once.
func fragNeededFromHost(t *testing.T, _ *world, cfg Config, g *guest) {
	g.send(t, cfg, bigPacket(g, 1450))
	g.receive(t, "fragmentation needed", func(f []byte) bool { return f[23] == 1 && f[34] == 3 && f[35] == 4 })
}

// bigPacket is a datagram of n bytes that must not be fragmented.
func bigPacket(g *guest, n int) []byte {
	datagram := append([]byte{0x13, 0x8c, 0x10, 0x92, byte((n - 20) >> 8), byte(n - 20), 0, 0}, make([]byte, n-28)...)
	return probe.IP(g.IP, netip.MustParseAddr(outsideAddr), 17, 0x4000, datagram)
}

// fragNeededFromInternet makes a router beyond the uplink the narrow place.
func fragNeededFromInternet(t *testing.T, w *world, cfg Config, g *guest) {
	w.internet.run(t, `
ip link add narrow mtu 1000 type bridge
ip link set narrow up
ip route add 198.51.100.128/25 dev narrow
sysctl -qw net.ipv4.ip_forward=1
`)
	packet := bigPacket(g, 1200)
	copy(packet[16:], netip.MustParseAddr("198.51.100.200").AsSlice())
	packet = probe.IP(g.IP, netip.MustParseAddr("198.51.100.200"), 17, 0x4000, packet[20:])
	g.send(t, cfg, packet)
	f := g.receive(t, "fragmentation needed", func(f []byte) bool { return f[23] == 1 && f[34] == 3 && f[35] == 4 })
	if src := netip.AddrFrom4([4]byte(f[26:30])); src.String() != routerAddr {
		t.Errorf("it comes from %s", src)
	}
}

func allowedPrivate(t *testing.T, w *world, cfg Config, g *guest) {
	w.echoServer(t, 4444)
	target := at(privateAddrs[0], 4444)
	g.Policy = Policy{Mode: Allow, Allow: []Rule{{Prefix: netip.PrefixFrom(target.Addr(), 32), Proto: "udp", Port: 4444}}}
	if err := Update(t.Context(), cfg, g.Endpoint); err != nil {
		t.Fatal(err)
	}
	g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5004), target, []byte("private-but-allowed")))
	g.receive(t, "the answer", func(f []byte) bool { return bytes.Contains(f, []byte("private-but-allowed")) })
}
