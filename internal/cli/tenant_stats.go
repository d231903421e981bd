package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
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
		Args:    cobra.ArbitraryArgs,
		Example: "  mvm tenant stats\n  mvm tenant stats acme --watch\n  mvm tenant stats --json --interval 10s",
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
			meter, err := stats.NewMeter(h, args)
			if err != nil {
				return err
			}
			show := func() error {
				usage, err := meter.Measure()
				if err != nil {
					return err
				}
				return output(a, usage, a.printUsage)
			}
			if _, err := meter.Measure(); err != nil { // rates need two
				return err
			}
			select {
			case <-time.After(interval):
			case <-ctx.Done():
				return ctx.Err()
			}
			if watch {
				return a.watch(ctx, interval, show)
			}
			return show()
		}),
	}
	a.jsonFlag(cmd, []stats.Usage{})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print it again and again, until interrupted")
	intervalFlag(cmd, &interval, "how long to measure for")
	return cmd
}

// intervalFlag adds --interval, which cannot be too short to measure anything.
func intervalFlag(cmd *cobra.Command, interval *time.Duration, help string) {
	cmd.Flags().DurationVar(interval, "interval", time.Second, help)
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if *interval < 100*time.Millisecond {
			return &tenant.InputError{Msg: fmt.Sprintf("an interval of %s is too short", *interval), Hint: "--interval takes 100ms or more"}
		}
		return check(cmd, args)
	}
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
