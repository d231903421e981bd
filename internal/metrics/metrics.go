// Package metrics writes what is known of tenants and their host in the text
// format of Prometheus, and serves it.
//
// Names follow Prometheus's rules: base units, counters end in _total.
package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/stats"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
)

// Host is what there is beside the tenants.
type Host struct {
	Version   string
	Tier      string
	DiskFree  uint64
	DiskTotal uint64
	Drops     map[string]map[string]uint64 // packets, by tenant and reason
}

// Write writes all of it. Tenants that do not run have no usage.
func Write(w io.Writer, host Host, samples []stats.Sample) error {
	p := &page{}
	p.family("mvm_build_info", "gauge", "The version of mvm; always 1.")
	p.sample("mvm_build_info", 1, "version", host.Version, "tier", host.Tier)
	p.family("mvm_state_disk_free_bytes", "gauge", "Free space on the disk of the state directory.")
	p.sample("mvm_state_disk_free_bytes", float64(host.DiskFree))
	p.family("mvm_state_disk_size_bytes", "gauge", "Size of the disk of the state directory.")
	p.sample("mvm_state_disk_size_bytes", float64(host.DiskTotal))
	count := map[tenant.Phase]int{}
	for _, s := range samples {
		count[s.Phase]++
	}
	p.family("mvm_tenants", "gauge", "Number of tenants, by phase.")
	for _, phase := range tenant.Phases {
		p.sample("mvm_tenants", float64(count[phase]), "phase", string(phase))
	}
	p.each("mvm_tenant_up", "gauge", "Whether the tenant's VMM runs.", samples, false, func(s stats.Sample) float64 {
		if s.Running {
			return 1
		}
		return 0
	})
	p.each("mvm_tenant_data_volume_bytes", "gauge", "What the data volume and those beside it take of the host's disk.", samples, false, func(s stats.Sample) float64 { return float64(s.DataVolume) })
	for _, m := range usage {
		p.each(m.name, m.kind, m.help, samples, true, m.value)
	}
	for _, m := range disks {
		p.family(m.name, "counter", m.help)
		for _, s := range samples {
			for _, disk := range slices.Sorted(maps.Keys(s.Disks)) {
				p.sample(m.name, float64(m.value(s.Disks[disk])), "tenant", s.ID, "disk", disk)
			}
		}
	}
	p.family("mvm_tenant_dropped_packets_total", "counter", "Packets of the tenant that the firewall dropped, by reason.")
	for _, s := range samples {
		for _, reason := range sortedKeys(host.Drops[s.ID]) {
			p.sample("mvm_tenant_dropped_packets_total", float64(host.Drops[s.ID][reason]), "tenant", s.ID, "reason", reason)
		}
	}
	_, err := w.Write(p.buf.Bytes())
	return err
}

// usage is what a tenant that runs has.
var usage = []struct {
	name, kind, help string
	value            func(stats.Sample) float64
}{
	{"mvm_tenant_uptime_seconds", "gauge", "Time since the tenant's VMM was started.", func(s stats.Sample) float64 { return s.Uptime }},
	{"mvm_tenant_vcpus", "gauge", "vCPUs of the guest.", func(s stats.Sample) float64 { return float64(s.VCPUs) }},
	{"mvm_tenant_cpu_seconds_total", "counter", "CPU time of guest and VMM.", func(s stats.Sample) float64 { return s.CPU }},
	{"mvm_tenant_memory_bytes", "gauge", "Memory of guest and VMM.", func(s stats.Sample) float64 { return float64(s.Memory) }},
	{"mvm_tenant_memory_peak_bytes", "gauge", "The most memory of guest and VMM.", func(s stats.Sample) float64 { return float64(s.MemoryPeak) }},
	{"mvm_tenant_memory_guest_bytes", "gauge", "Memory that the guest was promised.", func(s stats.Sample) float64 { return float64(s.MemoryGuest) }},
	{"mvm_tenant_oom_kills_total", "counter", "How often the kernel ended the VMM for lack of memory.", func(s stats.Sample) float64 { return float64(s.OOMKills) }},
	{"mvm_tenant_network_receive_bytes_total", "counter", "Bytes that came to the guest.", func(s stats.Sample) float64 { return float64(s.NetReceived) }},
	{"mvm_tenant_network_transmit_bytes_total", "counter", "Bytes that the guest sent.", func(s stats.Sample) float64 { return float64(s.NetSent) }},
	{"mvm_tenant_network_receive_packets_total", "counter", "Packets that came to the guest.", func(s stats.Sample) float64 { return float64(s.NetReceivedPackets) }},
	{"mvm_tenant_network_transmit_packets_total", "counter", "Packets that the guest sent.", func(s stats.Sample) float64 { return float64(s.NetSentPackets) }},
	{"mvm_tenant_disk_read_bytes_total", "counter", "Bytes that the VMM read from the host's disks.", func(s stats.Sample) float64 { return float64(s.DiskRead) }},
	{"mvm_tenant_disk_written_bytes_total", "counter", "Bytes that the VMM wrote to the host's disks.", func(s stats.Sample) float64 { return float64(s.DiskWritten) }},
}

// disks is what the VMM of a tenant that runs counts of each disk.
var disks = []struct {
	name, help string
	value      func(vmm.DiskCounters) uint64
}{
	{"mvm_tenant_guest_disk_read_bytes_total", "Bytes that the guest read from the disk, as its VMM counts.", func(d vmm.DiskCounters) uint64 { return d.ReadBytes }},
	{"mvm_tenant_guest_disk_written_bytes_total", "Bytes that the guest wrote to the disk, as its VMM counts.", func(d vmm.DiskCounters) uint64 { return d.WrittenBytes }},
	{"mvm_tenant_guest_disk_reads_total", "Read operations of the guest on the disk.", func(d vmm.DiskCounters) uint64 { return d.Reads }},
	{"mvm_tenant_guest_disk_writes_total", "Write operations of the guest on the disk.", func(d vmm.DiskCounters) uint64 { return d.Writes }},
	{"mvm_tenant_guest_disk_flushes_total", "Flushes that the guest asked of the disk.", func(d vmm.DiskCounters) uint64 { return d.Flushes }},
}

type page struct{ buf bytes.Buffer }

func (p *page) family(name, kind, help string) {
	fmt.Fprintf(&p.buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (p *page) each(name, kind, help string, samples []stats.Sample, running bool, value func(stats.Sample) float64) {
	p.family(name, kind, help)
	for _, s := range samples {
		if s.Running || !running {
			p.sample(name, value(s), "tenant", s.ID)
		}
	}
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (p *page) sample(name string, value float64, labels ...string) {
	p.buf.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(&p.buf, `%s%s="%s"`, sep, labels[i], escape.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		p.buf.WriteByte('}')
	}
	p.buf.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// Listen opens where metrics are served: unix:<path>, for root alone, or a
// loopback address. They tell about all tenants, so they are not for others.
func Listen(where string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(where, "unix:"); ok && path != "" {
		if len(path) > maxSocketPath {
			return nil, &tenant.InputError{Msg: fmt.Sprintf("metrics cannot be served on %q", where), Hint: fmt.Sprintf("the path of a socket can have %d bytes", maxSocketPath)}
		}
		if err := removeStale(path); err != nil {
			return nil, err
		}
		return listenForRoot(path)
	}
	at, err := netip.ParseAddrPort(where)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, &tenant.InputError{Msg: fmt.Sprintf("metrics cannot be served on %q", where), Hint: "use unix:<path> or 127.0.0.1:<port>"}
	}
	return net.Listen("tcp", where)
}

// maxSocketPath is what a socket's address has room for, and the byte that ends
// it.
const maxSocketPath = 107

// listenForRoot makes a socket that is nobody else's at any moment. The mask is
// the whole process's, which has nothing else to make now.
func listenForRoot(path string) (net.Listener, error) {
	defer unix.Umask(unix.Umask(0o177))
	return net.Listen("unix", path)
}

// removeStale takes away a socket that nobody listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil // listening says what is wrong, if anything is
	}
	if conn, err := net.Dial("unix", path); err == nil {
		return errors.Join(fmt.Errorf("somebody listens on %s already", path), conn.Close())
	}
	return os.Remove(path)
}

// grace is how long a client may take for the rest of its answer when the
// server ends.
const grace = 5 * time.Second

// Serve answers GET /metrics with what write writes, until ctx ends. An answer
// that has begun is ended then, unless its reader is slow.
func Serve(ctx context.Context, l net.Listener, write func(context.Context, io.Writer) error) error {
	return serve(ctx, l, write, grace)
}

func serve(ctx context.Context, l net.Listener, write func(context.Context, io.Writer) error, grace time.Duration) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		var buf bytes.Buffer
		if err := write(r.Context(), &buf); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Write(buf.Bytes()) // a client that left does not matter
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := server.Shutdown(patience)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		closed <- err
	})
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-closed
}

func sortedKeys(m map[string]uint64) []string { return slices.Sorted(maps.Keys(m)) }
