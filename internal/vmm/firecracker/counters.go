package firecracker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/auser/mvm/internal/vmm"
)

// counters adds Firecracker's metrics up: each line, a JSON object, counts from
// the one before.
type counters struct {
	mu    sync.Mutex
	line  []byte
	disks map[string]vmm.DiskCounters
	heard chan struct{} // closed and made anew with each line
}

// maxMetrics bounds a line of metrics, maxDisks the disks that they are about:
// what is beyond is not Firecracker's, but that of a guest that took it over.
const (
	maxMetrics = 1 << 20
	maxDisks   = 64
)

func newCounters() *counters {
	return &counters{disks: map[string]vmm.DiskCounters{}, heard: make(chan struct{})}
}

func (c *counters) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line = append(c.line, p...)
	for {
		line, rest, whole := bytes.Cut(c.line, []byte("\n"))
		if !whole {
			break
		}
		c.add(line)
		c.line = append([]byte(nil), rest...)
	}
	if len(c.line) > maxMetrics {
		c.line = nil
	}
	return len(p), nil
}

// add counts one line. It is called with c locked.
func (c *counters) add(line []byte) {
	var groups map[string]json.RawMessage
	if json.Unmarshal(line, &groups) != nil {
		return
	}
	for name, group := range groups {
		disk, ok := strings.CutPrefix(name, "block_")
		var n struct {
			ReadBytes  uint64 `json:"read_bytes"`
			WriteBytes uint64 `json:"write_bytes"`
			Reads      uint64 `json:"read_count"`
			Writes     uint64 `json:"write_count"`
			Flushes    uint64 `json:"flush_count"`
		}
		if !ok || json.Unmarshal(group, &n) != nil {
			continue
		}
		d, known := c.disks[disk]
		if !known && len(c.disks) == maxDisks {
			continue
		}
		d.ReadBytes += n.ReadBytes
		d.WrittenBytes += n.WriteBytes
		d.Reads += n.Reads
		d.Writes += n.Writes
		d.Flushes += n.Flushes
		c.disks[disk] = d
	}
	close(c.heard)
	c.heard = make(chan struct{})
}

// Counters has Firecracker write its metrics and says what they add up to.
func (v *machine) Counters(ctx context.Context) (vmm.Counters, error) {
	v.counters.mu.Lock()
	heard := v.counters.heard
	v.counters.mu.Unlock()
	if err := v.action(ctx, "FlushMetrics"); err != nil {
		return vmm.Counters{}, err
	}
	select {
	case <-heard:
	case <-v.done:
	case <-ctx.Done():
		return vmm.Counters{}, fmt.Errorf("cannot read Firecracker's metrics: %w", ctx.Err())
	}
	v.counters.mu.Lock()
	defer v.counters.mu.Unlock()
	return vmm.Counters{Disks: maps.Clone(v.counters.disks)}, nil
}

var _ vmm.Counter = (*machine)(nil)
