package network

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The benchmarks print ratios that were measured in one run on one machine;
// the absolute figures mean little elsewhere. Run them with
//
//	go test -run '^$' -bench . -benchtime 1x -v ./internal/network

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// BenchmarkAddRemove attaches and detaches one tenant next to 10, 100, 1000
// and 4000 others. The aim is that adding takes at most twice as long.
func BenchmarkAddRemove(b *testing.B) {
	if !isolated(b) {
		return
	}
	cfg := testConfig("nft")
	cfg.Subnet = netip.MustParsePrefix("10.50.0.1/16")
	add, remove := map[int]time.Duration{}, map[int]time.Duration{}
	var eps []Endpoint
	for _, size := range []int{10, 100, 1000, 4000} {
		for n := len(eps); n < size; n++ {
			eps = append(eps, endpoint(cfg, n, Policy{Mode: Open}))
		}
		if _, err := Reconcile(b.Context(), cfg, eps); err != nil {
			b.Fatal(err)
		}
		one := endpoint(cfg, size, Policy{Mode: Open})
		var adds, removes []time.Duration
		for range 15 {
			start := time.Now()
			if _, err := Attach(b.Context(), cfg, one); err != nil {
				b.Fatal(err)
			}
			adds = append(adds, time.Since(start))
			start = time.Now()
			if err := Detach(b.Context(), cfg, one); err != nil {
				b.Fatal(err)
			}
			removes = append(removes, time.Since(start))
		}
		add[size], remove[size] = median(adds), median(removes)
		b.Logf("at %4d tenants: add %s, remove %s", size, add[size].Round(10*time.Microsecond), remove[size].Round(10*time.Microsecond))
	}
	b.ReportMetric(float64(add[4000])/float64(add[10]), "add-4000/10")
	b.ReportMetric(float64(remove[4000])/float64(remove[10]), "remove-4000/10")
	if _, err := CleanUp(b.Context(), cfg); err != nil {
		b.Fatal(err)
	}
}

// figures are what a path through the host yields. Other work on the machine
// must not count, so throughput and packet rate are per second of processor
// time: of all threads for the one, of the sending thread, whose system calls
// carry each packet all the way through, for the other.
type figures struct{ rtt, bitsPerSecond, packetsPerSecond float64 }

func processorTime(b *testing.B, clock int32) time.Duration {
	b.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// BenchmarkForwarding compares the way to the internet through mvm's network
// with 1000 tenants with that through a bare bridge with NAT. The aims are a
// round trip of at most 1.3, a throughput of at least 0.97 and a packet rate of
// at least 0.8 of the bare ones.
func BenchmarkForwarding(b *testing.B) {
	if !isolated(b) {
		return
	}
	w := newWorld(b)
	w.sinks(b)
	cfg := testConfig("nft")
	cfg.Subnet = netip.MustParsePrefix("10.50.0.1/22")
	var eps []Endpoint
	for n := range 1000 {
		eps = append(eps, endpoint(cfg, n, Policy{Mode: Open}))
	}
	tenant := eps[999]

	guest := newNamespace(b)
	var bare, rules []figures
	measureBare := func() {
		guest.bareBridge(b, tenant)
		bare = append(bare, measure(b, guest))
		commands(b, "ip link del plain0\nip link del "+tenant.TAP+"\nnft delete table ip bare")
	}
	measureBare()
	measureBare()
	if _, err := Reconcile(b.Context(), cfg, eps[:999]); err != nil {
		b.Fatal(err)
	}
	for range 4 {
		guest.tenantOf(b, cfg, tenant)
		rules = append(rules, measure(b, guest))
		command(b, "ip", "link", "del", tenant.TAP)
	}
	if _, err := CleanUp(b.Context(), cfg); err != nil {
		b.Fatal(err)
	}
	measureBare()
	measureBare()
	for name, list := range map[string][]figures{"bare": bare, "mvm": rules} {
		for _, f := range list {
			b.Logf("%-4s  round trip %.1f µs  %.2f Gb/s  %.0f kpps", name, f.rtt*1e6, f.bitsPerSecond/1e9, f.packetsPerSecond/1e3)
		}
	}
	mid := func(list []figures, of func(figures) float64) float64 {
		var values []float64
		for _, f := range list {
			values = append(values, of(f))
		}
		slices.Sort(values)
		return (values[1] + values[2]) / 2
	}
	ratio := func(of func(figures) float64) float64 { return mid(rules, of) / mid(bare, of) }
	b.ReportMetric(ratio(func(f figures) float64 { return f.rtt }), "rtt/bare")
	b.ReportMetric(ratio(func(f figures) float64 { return f.bitsPerSecond }), "throughput/bare")
	b.ReportMetric(ratio(func(f figures) float64 { return f.packetsPerSecond }), "packets/bare")
}

// connectGuest gives the namespace an interface with the endpoint's addresses.
// Its peer, named like a TAP, stays with the host.
func (n namespace) connectGuest(b *testing.B, ep Endpoint, bits int) {
	b.Helper()
	command(b, "ip", "link", "add", ep.TAP, "type", "veth", "peer", "name", "eth0", "address", ep.MAC.String(), "netns", fmt.Sprint(n.pid))
	n.run(b, fmt.Sprintf("ip addr add %s/%d dev eth0\nip link set eth0 up mtu 1400\nip route add default via 10.50.0.1", ep.IP, bits))
}

func (n namespace) bareBridge(b *testing.B, ep Endpoint) {
	b.Helper()
	commands(b, `
ip link add plain0 type bridge
ip addr add 10.50.0.1/22 dev plain0
ip link set plain0 up
sysctl -qw net.ipv4.ip_forward=1
`)
	load(b, `table ip bare {
		chain postrouting {
			type nat hook postrouting priority srcnat; policy accept;
			ip saddr 10.50.0.0/22 oifname != "plain0" masquerade
		}
	}`)
	n.connectGuest(b, ep, 22)
	commands(b, "ip link set "+ep.TAP+" master plain0 up")
	n.awaitInternet(b)
}

// tenantOf makes the guest a tenant, with a device of a kind that has a whole
// network stack behind it in place of a TAP.
func (n namespace) tenantOf(b *testing.B, cfg Config, ep Endpoint) {
	b.Helper()
	n.connectGuest(b, ep, 22)
	l, err := openLinks(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	link, err := l.LinkByName(ep.TAP)
	if err == nil {
		err = l.LinkSetGroup(link, int(cfg.group()))
	}
	if err == nil {
		err = cfg.addRules(b.Context(), ep)
	}
	var bridge netlink.Link
	if err == nil {
		bridge, err = l.LinkByName(cfg.BridgeOf(ep.IP))
	}
	if err == nil {
		err = l.connectTAP(link, bridge, ep)
	}
	if err != nil {
		b.Fatal(err)
	}
	n.awaitInternet(b)
}

func (n namespace) awaitInternet(b *testing.B) {
	b.Helper()
	eventually(b, "the guest reaches the internet", func() bool {
		reached := false
		n.do(b, func() error {
			conn, err := net.DialTimeout("tcp4", outsideAddr+":5001", time.Second)
			if err == nil {
				conn.Close()
			}
			reached = err == nil
			return nil
		})
		return reached
	})
}

// sinks run on the internet: 5001 swallows TCP, 5002 echoes UDP, 5003 takes UDP
// and never reads it.
func (w *world) sinks(b *testing.B) {
	b.Helper()
	var tcp net.Listener
	var deaf net.PacketConn
	w.internet.do(b, func() (err error) {
		if tcp, err = net.Listen("tcp4", ":5001"); err == nil {
			deaf, err = net.ListenPacket("udp4", ":5003")
		}
		return err
	})
	b.Cleanup(func() { tcp.Close(); deaf.Close() })
	w.echoServer(b, 5002)
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }()
		}
	}()
}

func measure(b *testing.B, guest namespace) (f figures) {
	b.Helper()
	dial := func(network string, port uint16) (conn net.Conn) {
		guest.do(b, func() (err error) {
			conn, err = net.Dial(network, at(outsideAddr, port).String())
			return err
		})
		return conn
	}
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	echo := dial("udp4", 5002)
	defer echo.Close()
	buf := make([]byte, 1<<20)
	var trips []time.Duration
	for range 5000 {
		start := time.Now()
		_, err := echo.Write(buf[:64])
		check(err)
		check(echo.SetReadDeadline(start.Add(time.Second)))
		_, err = echo.Read(buf)
		check(err)
		trips = append(trips, time.Since(start))
	}
	f.rtt = median(trips).Seconds()

	stream := dial("tcp4", 5001)
	defer stream.Close()
	sent, start, cpu := 0, time.Now(), processorTime(b, unix.CLOCK_PROCESS_CPUTIME_ID)
	for time.Since(start) < 2*time.Second {
		n, err := stream.Write(buf)
		check(err)
		sent += n
	}
	f.bitsPerSecond = float64(sent) * 8 / (processorTime(b, unix.CLOCK_PROCESS_CPUTIME_ID) - cpu).Seconds()

	small := dial("udp4", 5003)
	defer small.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const packets = 200_000
	cpu = processorTime(b, unix.CLOCK_THREAD_CPUTIME_ID)
	for range packets {
		_, err := small.Write(buf[:22]) // 64 bytes on the wire
		check(err)
	}
	f.packetsPerSecond = packets / (processorTime(b, unix.CLOCK_THREAD_CPUTIME_ID) - cpu).Seconds()
	return f
}
