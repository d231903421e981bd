package stats

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestSince(t *testing.T) {
	t0 := time.Now()
	before := Sample{Time: t0, Running: true, Uptime: 10, CPU: 1, NetSent: 1000, DiskRead: 4096}
	now := Sample{Time: t0.Add(2 * time.Second), Running: true, Uptime: 12, CPU: 4, NetSent: 3000, DiskRead: 4096, Memory: 256 << 20, MemoryGuest: 512 << 20}
	u := Since(before, now)
	if u.CPUPercent != 150 || u.NetSent.PerSecond != 1000 || u.NetSent.Bytes != 3000 || u.DiskRead.PerSecond != 0 || u.MemoryOfGuest != 50 {
		t.Errorf("got %+v", u)
	}
	// It was started anew in between: the counters began at 0.
	now.CPU, now.Uptime, now.NetSent = 0.5, 1, 10
	if u := Since(before, now); u.CPUPercent != 50 || u.NetSent.PerSecond != 10 {
		t.Errorf("after a restart: %+v", u)
	}
	// The clock was set back, to before its start.
	now.Uptime = 0
	if u := Since(before, now); u.CPUPercent != 0 || u.NetSent.PerSecond != 0 || u.NetSent.Bytes != 10 || u.IntervalPassed != 0 {
		t.Errorf("after the clock was set back: %+v", u)
	}
	if u := Since(Sample{}, Sample{}); u.CPUPercent != 0 || u.NetSent.PerSecond != 0 {
		t.Errorf("of nothing: %+v", u)
	}
}

func TestCounters(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("42/io", "rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n")
	r := &Reader{proc: dir}
	var s Sample
	if err := r.disk(&s, 42); err != nil || s.DiskRead != 4096 || s.DiskWritten != 8192 {
		t.Errorf("disk %+v, %v", s, err)
	}
	if err := r.disk(&s, 43); err == nil {
		t.Error("a VMM that is gone was measured")
	}
}

// TestNetworkCounters reads those of a link that there is everywhere.
func TestNetworkCounters(t *testing.T) {
	var s Sample
	s.seenFromGuest(&netlink.LinkStatistics{TxBytes: 11, RxBytes: 22, TxPackets: 3, RxPackets: 4})
	if s.NetReceived != 11 || s.NetSent != 22 || s.NetReceivedPackets != 3 || s.NetSentPackets != 4 {
		t.Errorf("seen from the guest: %+v", s)
	}
	r := &Reader{}
	var before, after Sample
	if err := r.network(&before, "lo"); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := r.network(&after, "lo"); err != nil || after.NetSent < before.NetSent+1000 || after.NetSentPackets <= before.NetSentPackets {
		t.Errorf("after 1000 bytes %+v, before %+v, %v", after, before, err)
	}
	if err := r.network(&after, "no-such-tap"); err == nil {
		t.Error("a TAP that is gone was measured")
	}
}
