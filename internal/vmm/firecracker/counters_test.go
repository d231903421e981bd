package firecracker

import (
	"fmt"
	"testing"

	"github.com/auser/mvm/internal/vmm"
)

// TestCountersAddUp takes lines of Firecracker's as they come through a pipe:
// in pieces, each counting from the one before.
func TestCountersAddUp(t *testing.T) {
	c := newCounters()
	lines := `{"utc_timestamp_ms":1,"block":{"read_bytes":9},"block_data":{"read_bytes":4096,"write_bytes":512,"read_count":1,"write_count":2,"flush_count":3},"vcpu":{"exit_io_in":7}}
no JSON
{"utc_timestamp_ms":2,"block_data":{"read_bytes":4,"write_bytes":1,"write_count":1},"block_rootfs":{"read_bytes":8}}
`
	for _, piece := range []string{lines[:50], lines[50:200], lines[200:]} {
		if n, err := c.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	want := map[string]vmm.DiskCounters{
		"data":   {ReadBytes: 4100, WrittenBytes: 513, Reads: 1, Writes: 3, Flushes: 3},
		"rootfs": {ReadBytes: 8},
	}
	for disk, n := range want {
		if c.disks[disk] != n {
			t.Errorf("%s: %+v, want %+v", disk, c.disks[disk], n)
		}
	}
	if len(c.disks) != len(want) {
		t.Errorf("%v", c.disks)
	}
}

// A guest that took Firecracker over may write of disks without end.
func TestCountersAreBounded(t *testing.T) {
	c := newCounters()
	for n := range 1000 {
		fmt.Fprintf(c, "{\"block_%d\": {\"read_count\": 1}}\n", n)
	}
	if len(c.disks) > maxDisks {
		t.Errorf("%d disks are kept", len(c.disks))
	}
}
