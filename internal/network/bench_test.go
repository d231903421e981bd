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

// figure is one quality of a path through the host. Other work on the machine
// must not count, so throughput and packet rate are per second of processor
// time: of all threads for the one, of the sending thread, whose system calls
// carry each packet all the way through, for the other.
type figure struct {
	name    string
	measure func(*testing.B, namespace) float64
}

func processorTime(b *testing.B, clock int32) time.Duration {
	b.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// rounds is how many pairs of measurements there are of each figure.
const rounds = 40

// BenchmarkForwarding compares the way to the internet through mvm's network
// with 1000 tenants with that through a bare bridge with NAT. The aims are a
// round trip of at most 1.3, a throughput of at least 0.97 and a packet rate of
// at least 0.8 of the bare ones.
//
// Both ways stand at the same time, on two hosts that share nothing but the
// internet. They are measured in short turns, and each turn is compared with
// its neighbour only, so that what else the machine does weighs on both.
func BenchmarkForwarding(b *testing.B) {
	if !isolated(b) {
		return
	}
	w := newWorld(b)
	w.sinks(b)
	bare := w.bareHost(b)
	cfg := testConfig("nft")
	cfg.Subnet = netip.MustParsePrefix("10.50.0.1/22")
	var eps []Endpoint
	for n := range 1000 {
		eps = append(eps, endpoint(cfg, n, Policy{Mode: Open}))
	}
	if _, err := Reconcile(b.Context(), cfg, eps[:999]); err != nil {
		b.Fatal(err)
	}
	tenant := newNamespace(b)
	tenant.tenantOf(b, cfg, eps[999])

	for _, f := range []figure{
		{"rtt", roundTrip}, {"throughput", throughput},
		{"packets", func(b *testing.B, n namespace) float64 { return w.packetRate(b, n, true) }},
		// Connection tracking calls each packet new until one comes back.
		{"unanswered", func(b *testing.B, n namespace) float64 { return w.packetRate(b, n, false) }},
	} {
		f.compare(b, tenant, bare)
	}
	if _, err := CleanUp(b.Context(), cfg); err != nil {
		b.Fatal(err)
	}
}

// compare prints the median of the ratios, and between what half of them lie.
func (f figure) compare(b *testing.B, path, bare namespace) {
	b.Helper()
	var ratios []float64
	for round := range rounds + 1 {
		var with, without float64
		if round%2 == 0 {
			without, with = f.measure(b, bare), f.measure(b, path)
		} else {
			with, without = f.measure(b, path), f.measure(b, bare)
		}
		if round > 0 { // the first is there to warm up
			ratios = append(ratios, with/without)
		}
	}
	slices.Sort(ratios)
	n := len(ratios)
	b.Logf("%-10s %.3f of bare; half of the %d pairs between %.3f and %.3f", f.name, ratios[n/2], n, ratios[n/4], ratios[3*n/4])
	b.ReportMetric(ratios[n/2], f.name+"/bare")
}

// bareHost is another host, with a bridge, NAT and nothing else, and the same
// published port as the one under test. It returns a guest on that bridge.
func (w *world) bareHost(b *testing.B) namespace {
	b.Helper()
	host, guest := newNamespace(b), newNamespace(b)
	w.internet.run(b, fmt.Sprintf(`
ip link add w1 mtu 1400 type veth peer name up0 mtu 1400 netns %d
ip addr add 203.0.114.1/24 dev w1
ip link set w1 up
`, host.pid))
	host.run(b, fmt.Sprintf(`
ip addr add 203.0.114.2/24 dev up0
ip link set up0 up
ip route add default via 203.0.114.1
sysctl -qw net.ipv4.ip_forward=1
ip link add plain0 type bridge
ip addr add 10.60.0.1/22 dev plain0
ip link set plain0 up
ip link add port0 master plain0 type veth peer name eth0 netns %d
ip link set port0 up
nft add table ip bare
nft add chain ip bare prerouting { type nat hook prerouting priority dstnat ; }
nft add rule ip bare prerouting ip daddr 203.0.114.2 tcp dport 8080 dnat to 172.17.0.2:80
nft add chain ip bare postrouting { type nat hook postrouting priority srcnat ; }
nft add rule ip bare postrouting ip saddr 10.60.0.0/22 oifname != plain0 masquerade
`, guest.pid))
	guest.configure(b, "10.60.0.10/22", "10.60.0.1")
	guest.awaitInternet(b)
	return guest
}

// configure gives the guest's interface its address and a way out.
func (n namespace) configure(b *testing.B, addr, gateway string) {
	b.Helper()
	n.run(b, fmt.Sprintf("ip addr add %s dev eth0\nip link set eth0 up mtu 1400\nip route add default via %s", addr, gateway))
}

// tenantOf makes the guest a tenant, with a device of a kind that has a whole
// network stack behind it in place of a TAP.
func (n namespace) tenantOf(b *testing.B, cfg Config, ep Endpoint) {
	b.Helper()
	command(b, "ip", "link", "add", ep.TAP, "type", "veth", "peer", "name", "eth0", "address", ep.MAC.String(), "netns", fmt.Sprint(n.pid))
	n.configure(b, fmt.Sprintf("%s/%d", ep.IP, cfg.Subnet.Bits()), cfg.Subnet.Addr().String())
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

// sinks run on the internet: 5001 swallows TCP, 5002 echoes UDP.
func (w *world) sinks(b *testing.B) {
	b.Helper()
	var tcp net.Listener
	w.internet.do(b, func() (err error) {
		tcp, err = net.Listen("tcp4", ":5001")
		return err
	})
	b.Cleanup(func() { tcp.Close() })
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

// dial connects from within the guest to a port on the internet.
func (n namespace) dial(b *testing.B, network string, port uint16) (conn net.Conn) {
	b.Helper()
	n.do(b, func() (err error) {
		conn, err = net.Dial(network, at(outsideAddr, port).String())
		return err
	})
	return conn
}

// roundTrip is the median of some hundred, in seconds.
func roundTrip(b *testing.B, guest namespace) float64 {
	echo := guest.dial(b, "udp4", 5002)
	defer echo.Close()
	buf := make([]byte, 64)
	var trips []time.Duration
	for range 500 {
		start := time.Now()
		_, err := echo.Write(buf)
		if err == nil {
			err = echo.SetReadDeadline(start.Add(5 * time.Second))
		}
		if err == nil {
			_, err = echo.Read(buf)
		}
		if err != nil {
			b.Fatal(err)
		}
		trips = append(trips, time.Since(start))
	}
	return median(trips).Seconds()
}

// throughput is that of a stream, in bits.
func throughput(b *testing.B, guest namespace) float64 {
	stream := guest.dial(b, "tcp4", 5001)
	defer stream.Close()
	buf := make([]byte, 1<<20)
	const total = 128 << 20
	cpu := processorTime(b, unix.CLOCK_PROCESS_CPUTIME_ID)
	for range total / len(buf) {
		if _, err := stream.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	return total * 8 / (processorTime(b, unix.CLOCK_PROCESS_CPUTIME_ID) - cpu).Seconds()
}

// packetRate is that of the smallest packets, 64 bytes on the wire, to somebody
// who answers the first one or none, and reads no more.
func (w *world) packetRate(b *testing.B, guest namespace, answered bool) float64 {
	var sink net.PacketConn
	w.internet.do(b, func() (err error) {
		sink, err = net.ListenPacket("udp4", outsideAddr+":0")
		return err
	})
	defer sink.Close()
	small := guest.dial(b, "udp4", uint16(sink.LocalAddr().(*net.UDPAddr).Port))
	defer small.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, 22)
	if answered {
		_, err := small.Write(buf)
		var from net.Addr
		if err == nil {
			_, from, err = sink.ReadFrom(buf)
		}
		if err == nil {
			_, err = sink.WriteTo(buf, from)
		}
		if err == nil {
			_, err = small.Read(buf)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	const packets = 20_000
	cpu := processorTime(b, unix.CLOCK_THREAD_CPUTIME_ID)
	for range packets {
		if _, err := small.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	return packets / (processorTime(b, unix.CLOCK_THREAD_CPUTIME_ID) - cpu).Seconds()
}
