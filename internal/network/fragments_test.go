package network

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/network/probe"
)

// TestFragmentsLeaveRoomForOthers floods the host with fragments whose rest
// never comes. The kernel keeps them for half a minute, in a memory that all
// share; a neighbour's datagram in two fragments has to get through all the
// same.
func TestFragmentsLeaveRoomForOthers(t *testing.T) {
	if !isolated(t) {
		return
	}
	w := newWorld(t)
	w.echoServer(t, 4242)
	cfg := testConfig("nft")
	attacker := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
	neighbour := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
	const more = 0x2000
	for n := range 5000 {
		size := 1480
		if n%10 == 0 {
			size = 60_000 // no link takes it, but TAPs do
		}
		dst := netip.AddrFrom4([4]byte{9, 9, byte(n >> 8), byte(n)}) // each a datagram of its own
		attacker.send(t, cfg, probe.IP(attacker.IP, dst, 17, more, make([]byte, size)))
	}
	t.Logf("fragments that are kept: %s", keptFragments(t))

	nonce := []byte("a neighbour's datagram in two fragments")
	payload := make([]byte, 1472, 1600)
	payload = append(payload, nonce...)
	datagram := append(be16s(5000, 4242, 8+len(payload), 0), payload...)
	to := netip.MustParseAddr(outsideAddr)
	neighbour.send(t, cfg, probe.IP(neighbour.IP, to, 17, more, datagram[:1480]))
	neighbour.send(t, cfg, probe.IP(neighbour.IP, to, 17, 1480/8, datagram[1480:]))
	neighbour.receive(t, "the answer to a datagram in fragments", func(f []byte) bool { return bytes.Contains(f, nonce) })
	if show, err := Show(t.Context(), cfg); err != nil || show.Drops[attacker.Endpoint.TAP]["fragments"] == 0 {
		t.Errorf("drops = %v, %v", show.Drops, err)
	}
}

func be16s(values ...int) (out []byte) {
	for _, v := range values {
		out = binary.BigEndian.AppendUint16(out, uint16(v))
	}
	return out
}

// keptFragments is what the kernel says of them.
func keptFragments(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/sockstat", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "FRAG: "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "unknown"
}
