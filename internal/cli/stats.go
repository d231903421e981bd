package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/buildinfo"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/metrics"
	"github.com/auser/mvm/internal/stats"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantStats() *cobra.Command {
	var (
		watch    bool
		interval time.Duration
	)
	cmd := &cobra.Command{
		Use:   "stats [id]…",
		Short: "Print what running tenants take of CPU, memory, disk and network",
		Long: `Print what running tenants take of CPU, memory, disk and network.

The kernel counts it on the host: in the tenant's cgroup, at its TAP and for
its VMM's process. Rates are of the interval that the command measures.`,
		Example: "  mvm tenant stats\n  mvm tenant stats acme --watch\n  mvm tenant stats --json --interval 10s",
		RunE: func(cmd *cobra.Command, args []string) error {
			if interval < 100*time.Millisecond {
				return &usageError{msg: fmt.Sprintf("an interval of %s is too short", interval), hint: "--interval takes 100ms or more"}
			}
			h, err := a.host()
			if err != nil {
				return err
			}
			meter, err := newMeter(h, args)
			if err != nil {
				return err
			}
			show := func() error {
				usage, err := meter.measure()
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(usage)
				}
				return a.printUsage(usage)
			}
			if _, err := meter.measure(); err != nil { // rates need two
				return err
			}
			select {
			case <-time.After(interval):
			case <-cmd.Context().Done():
				return cmd.Context().Err()
			}
			if watch {
				return a.watch(cmd.Context(), interval, show)
			}
			return show()
		},
	}
	a.jsonFlag(cmd, []stats.Usage{})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print it again and again, until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how long to measure for")
	return cmd
}

// meter measures tenants again and again.
type meter struct {
	host   *lifecycle.Host
	reader *stats.Reader
	ids    []string // all that run, where it is empty
	before map[string]stats.Sample
}

func newMeter(h *lifecycle.Host, ids []string) (*meter, error) {
	reader, err := stats.NewReader(h)
	return &meter{h, reader, ids, map[string]stats.Sample{}}, err
}

// measure compares with the time before.
func (m *meter) measure() ([]stats.Usage, error) {
	var list []lifecycle.Status
	if len(m.ids) == 0 {
		all, err := m.host.List()
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if s.Running {
				list = append(list, s.Status)
			}
		}
	}
	for _, id := range m.ids {
		s, err := m.host.Observe(id)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	usage := make([]stats.Usage, len(list))
	samples := make(map[string]stats.Sample, len(list))
	for i, s := range list {
		samples[s.ID] = m.reader.Read(s)
		usage[i] = stats.Since(m.before[s.ID], samples[s.ID])
	}
	m.before = samples
	return usage, nil
}

func usageTable() *table {
	return &table{
		head:  []string{"TENANT", "STATE", "CPU", "MEM", "MEM %", "NET IN", "NET OUT", "DISK READ", "DISK WRITE", "UPTIME", "NOTE"},
		spare: []string{"MEM %", "UPTIME", "STATE", "DISK READ", "DISK WRITE", "NET IN", "NET OUT"},
	}
}

func usageRow(u stats.Usage) []string {
	if !u.Running {
		return []string{u.ID, string(u.Phase), "-", "-", "-", "-", "-", "-", "-", "-", u.Error}
	}
	rate := func(r stats.Rate) string { return byteSize(int64(r.PerSecond)) + "/s" }
	return []string{
		u.ID, string(u.Phase), fmt.Sprintf("%.1f %%", u.CPUPercent), byteSize(int64(u.Memory)), fmt.Sprintf("%.0f %%", u.MemoryOfGuest),
		rate(u.NetReceived), rate(u.NetSent), rate(u.DiskRead), rate(u.DiskWritten),
		span(time.Duration(u.Uptime * float64(time.Second))), u.Error,
	}
}

func (a *app) printUsage(usage []stats.Usage) error {
	if len(usage) == 0 {
		a.note("no tenant runs")
		return nil
	}
	t := usageTable()
	for _, u := range usage {
		t.row(usageRow(u)...)
	}
	return a.printTable(t)
}

func (a *app) metricsCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "Print metrics of all tenants and the host for Prometheus, or serve them",
		Long: `Print metrics of all tenants and the host for Prometheus, or serve them.

They tell about all tenants, so they are served to this host alone: on a socket
for root, or on a loopback address. docs/grafana.json is a dashboard for them.`,
		Example: `  mvm metrics > /var/lib/node_exporter/mvm.prom
  mvm metrics --listen 127.0.0.1:9550
  mvm metrics --listen unix:/run/mvm-metrics.sock`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			reader, err := stats.NewReader(h)
			if err != nil {
				return err
			}
			write := func(ctx context.Context, w io.Writer) error { return writeMetrics(ctx, w, h, reader) }
			if listen == "" {
				return write(cmd.Context(), a.Out)
			}
			l, err := metrics.Listen(listen)
			if err != nil {
				return fmt.Errorf("cannot serve metrics: %w", err)
			}
			a.note("serving /metrics on %s; Ctrl-C ends it", listen)
			return metrics.Serve(cmd.Context(), l, write)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "serve them on unix:<path> or a loopback address")
	return cmd
}

func writeMetrics(ctx context.Context, w io.Writer, h *lifecycle.Host, reader *stats.Reader) error {
	samples, err := reader.All()
	if err != nil {
		return err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(h.Store.Root, &disk); err != nil {
		return fmt.Errorf("cannot look at the disk of %s: %w", h.Store.Root, err)
	}
	host := metrics.Host{
		Version: buildinfo.Get().Version, Tier: h.Config.Tier,
		DiskFree: disk.Bavail * uint64(disk.Bsize), DiskTotal: disk.Blocks * uint64(disk.Bsize),
		Drops: map[string]map[string]uint64{},
	}
	net, err := h.Network(ctx)
	if err != nil {
		return err
	}
	for _, s := range samples {
		dropped := net.Drops[tenant.TapName(h.Store.Scope, s.ID)]
		host.Drops[s.ID] = make(map[string]uint64, len(dropped))
		for reason, n := range dropped {
			host.Drops[s.ID][string(reason)] = n
		}
	}
	return metrics.Write(w, host, samples)
}
