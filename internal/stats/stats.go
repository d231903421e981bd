// Package stats measures what tenants take of the host: from their cgroup,
// their TAP and their VMM's process, as the kernel counts them. Nothing of it
// comes from inside a guest.
//
// It reads and computes; how it is shown is others' business.
package stats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
)

// Sample is what one tenant has taken until Time. Counters start at 0 with
// each start of its VMM.
type Sample struct {
	ID      string       `json:"tenant_id"`
	Time    time.Time    `json:"time"`
	Phase   tenant.Phase `json:"phase"`
	Running bool         `json:"running"`
	Uptime  float64      `json:"uptime_seconds"`
	VCPUs   int          `json:"vcpus"`

	CPU         float64 `json:"cpu_seconds"`
	Memory      uint64  `json:"memory_bytes"` // of guest and VMM, as charged to the cgroup
	MemoryPeak  uint64  `json:"memory_peak_bytes"`
	MemoryGuest uint64  `json:"memory_guest_bytes"` // what the guest was promised
	OOMKills    uint64  `json:"oom_kills"`
	Processes   uint64  `json:"processes"`

	// As the guest sees it: received is what came to it.
	NetReceived, NetSent               uint64 `json:"-"`
	NetReceivedPackets, NetSentPackets uint64 `json:"-"`
	DiskRead, DiskWritten              uint64 `json:"-"`
	DataVolume                         int64  `json:"data_volume_bytes"` // on the host's disk, all volumes together

	// What the VMM counts; absent where it could not be asked.
	Disks map[string]vmm.DiskCounters `json:"disks,omitempty"`

	Error string `json:"error,omitempty"` // what could not be measured
}

// Reader measures tenants of one host.
type Reader struct {
	host    *lifecycle.Host
	cgroups *cgroup.Host
	proc    string // /proc
}

// NewReader finds what is read from.
func NewReader(h *lifecycle.Host) (*Reader, error) {
	groups, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return &Reader{h, groups, "/proc"}, nil
}

// Read measures one tenant. What cannot be measured is 0 and said in Error:
// a VMM may end at any moment.
func (r *Reader) Read(s lifecycle.Status) Sample {
	sample := Sample{
		ID: s.ID, Time: time.Now(), Phase: s.Phase, Running: s.Running, VCPUs: s.Spec.VCPUs,
		MemoryGuest: uint64(s.Spec.MemMiB) << 20, DataVolume: r.host.DiskBytes(s.ID, s.Spec.Volumes), Error: s.Error,
	}
	if !s.Running {
		return sample
	}
	sample.Uptime = s.State.Uptime(sample.Time).Seconds()
	sample.VCPUs, sample.MemoryGuest = s.State.Spec.VCPUs, uint64(s.State.Spec.MemMiB)<<20 // of this run
	err := errors.Join(r.cgroup(&sample), r.network(&sample, s.State.Net.TAP), r.disk(&sample, s.State.FirecrackerPID), r.vmm(&sample))
	if err != nil {
		sample.Error = err.Error()
	}
	return sample
}

func (r *Reader) cgroup(s *Sample) error {
	group, err := r.cgroups.Group(supervisor.CgroupParent(r.host.Store), tenant.ShortHash(s.ID))
	if err != nil {
		return err
	}
	used, err := group.Stats()
	if err != nil {
		return fmt.Errorf("cannot read its cgroup: %w", err)
	}
	s.CPU, s.Memory, s.MemoryPeak = used.CPU.Seconds(), used.MemoryBytes, used.MemoryPeak
	s.OOMKills, s.Processes = used.OOMKills, used.Pids
	return nil
}

// network reads the TAP's counters, whose directions are the host's. They come
// by netlink: /sys may show another network namespace.
func (r *Reader) network(s *Sample, tap string) error {
	link, err := netlink.LinkByName(tap)
	if err != nil {
		return fmt.Errorf("cannot read its TAP %s: %w", tap, err)
	}
	n := link.Attrs().Statistics
	if n == nil {
		return fmt.Errorf("cannot read its TAP %s: the kernel counts nothing", tap)
	}
	s.seenFromGuest(n)
	return nil
}

// seenFromGuest turns what the host counts at the TAP around.
func (s *Sample) seenFromGuest(n *netlink.LinkStatistics) {
	s.NetReceived, s.NetSent = n.TxBytes, n.RxBytes
	s.NetReceivedPackets, s.NetSentPackets = n.TxPackets, n.RxPackets
}

// disk reads what the VMM has moved to and from disks, see proc_pid_io(5).
func (r *Reader) disk(s *Sample, pid int) error {
	text, err := os.ReadFile(filepath.Join(r.proc, strconv.Itoa(pid), "io"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its VMM, process %d, is gone", pid)
	}
	if err != nil {
		return fmt.Errorf("cannot read its disk counters: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		into := map[string]*uint64{"read_bytes": &s.DiskRead, "write_bytes": &s.DiskWritten}[key]
		if into == nil {
			continue
		}
		if *into, err = strconv.ParseUint(value, 10, 64); err != nil {
			return fmt.Errorf("cannot read its disk counters: %w", err)
		}
	}
	return nil
}

// vmmTimeout bounds how long a VMM may take to say what it has counted.
const vmmTimeout = 2 * time.Second

// vmm asks the tenant's supervisor, which asks the VMM.
func (r *Reader) vmm(s *Sample) error {
	ctx, cancel := context.WithTimeout(context.Background(), vmmTimeout)
	defer cancel()
	counted, err := supervisor.Client{Socket: r.host.Store.Tenant(s.ID).ControlSocket()}.Counters(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask its VMM: %w", err)
	}
	s.Disks = counted.Disks
	return nil
}

// guestDisk is what the guest has read and written of all its disks.
func (s Sample) guestDisk() (read, written uint64) {
	for _, d := range s.Disks {
		read, written = read+d.ReadBytes, written+d.WrittenBytes
	}
	return read, written
}

// All measures every tenant, sorted by id.
func (r *Reader) All() ([]Sample, error) {
	list, err := r.host.List()
	if err != nil {
		return nil, err
	}
	samples := make([]Sample, len(list))
	for i, s := range list {
		samples[i] = r.Read(s.Status)
	}
	return samples, nil
}

// Usage is a sample with what the tenant takes per second since an earlier
// one.
type Usage struct {
	Sample
	CPUPercent     float64 `json:"cpu_percent"` // of one CPU: two busy ones are 200
	NetReceived    Rate    `json:"network_received"`
	NetSent        Rate    `json:"network_sent"`
	DiskRead       Rate    `json:"disk_read"`
	DiskWritten    Rate    `json:"disk_written"`
	GuestRead      Rate    `json:"guest_disk_read"` // as the VMM counts it, the host's cache included
	GuestWritten   Rate    `json:"guest_disk_written"`
	PacketsPerSec  float64 `json:"packets_per_second"`
	MemoryOfGuest  float64 `json:"memory_percent"` // of what the guest was promised; the VMM's own makes it exceed 100
	IntervalPassed float64 `json:"interval_seconds"`
}

// Rate is a counter of bytes and how fast it grows.
type Rate struct {
	Bytes     uint64  `json:"bytes"`
	PerSecond float64 `json:"bytes_per_second"`
}

// Since compares two samples of one tenant. Without an earlier one, or after a
// restart between both, rates are over the time since its start.
func Since(before, now Sample) Usage {
	seconds := now.Time.Sub(before.Time).Seconds()
	if before.Time.IsZero() || now.CPU < before.CPU || now.Uptime < before.Uptime || !before.Running {
		before, seconds = Sample{}, now.Uptime
	}
	rate := func(was, is uint64) Rate { return Rate{is, perSecond(was, is, seconds)} }
	u := Usage{
		Sample: now, IntervalPassed: seconds,
		NetReceived: rate(before.NetReceived, now.NetReceived), NetSent: rate(before.NetSent, now.NetSent),
		DiskRead: rate(before.DiskRead, now.DiskRead), DiskWritten: rate(before.DiskWritten, now.DiskWritten),
		PacketsPerSec: perSecond(before.NetReceivedPackets+before.NetSentPackets, now.NetReceivedPackets+now.NetSentPackets, seconds),
	}
	wasRead, wasWritten := before.guestDisk()
	isRead, isWritten := now.guestDisk()
	u.GuestRead, u.GuestWritten = rate(wasRead, isRead), rate(wasWritten, isWritten)
	if seconds > 0 {
		u.CPUPercent = 100 * (now.CPU - before.CPU) / seconds
	}
	if now.MemoryGuest > 0 {
		u.MemoryOfGuest = 100 * float64(now.Memory) / float64(now.MemoryGuest)
	}
	return u
}

func perSecond(was, is uint64, seconds float64) float64 {
	if seconds <= 0 || cmp.Less(is, was) {
		return 0
	}
	return float64(is-was) / seconds
}
