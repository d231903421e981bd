package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
)

func (a *app) tenantRun() *cobra.Command {
	var opts lifecycle.RunOptions
	var file string
	cmd := &cobra.Command{
		Use:   "run <id>",
		Short: "Start a tenant's microVM and wait until the guest answers on SSH",
		Long: `Start a tenant's microVM and wait until the guest answers on SSH.

On the software tier as many guests boot side by side as there are CPUs. A tenant
that has to wait for its turn can be stopped meanwhile, and --timeout begins when
it boots.

Ctrl-C while waiting for the guest, or for its turn, stops the waiting, not the
guest.`,
		Example: "  mvm tenant run acme\n  mvm tenant run acme --no-wait\n  mvm tenant run acme --trace run.json",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("run", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			opts.Progress = a.showStep
			var done lifecycle.Ran
			err := traced(ctx, file, "mvm tenant run "+args[0], func(ctx context.Context) (err error) {
				done, err = h.Run(ctx, args[0], opts)
				return err
			})
			if err != nil {
				return err
			}
			a.printRan(args[0], done, opts.NoWait)
			return nil
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&opts.NoWait, "no-wait", false, "return as soon as the VMM runs")
	f.DurationVar(&opts.Timeout, "timeout", 0, "how long to wait for the guest (default: limits.ssh_timeout_sec)")
	f.StringVar(&file, "trace", "", "write how long each step took to this `file`, for ui.perfetto.dev or chrome://tracing")
	waitFlag(cmd)
	return cmd
}

func (a *app) printRan(id string, done lifecycle.Ran, noWait bool) {
	switch {
	case done.Already:
		a.result("tenant %s runs already: %s", id, done.State.Net.IP)
	case noWait:
		a.result("tenant %s started: %s, %s tier", id, done.State.Net.IP, done.State.Tier)
	default:
		a.result("tenant %s runs: %s, %s tier, answers on SSH after %s", id, done.State.Net.IP, done.State.Tier, seconds(done.Ready))
	}
}

// showStep prints one finished step of a start.
func (a *app) showStep(p supervisor.Progress) {
	if p.Note != "" {
		a.note("  %s", p.Note)
	}
	if p.Step != "" {
		a.note("  %-10s %7.1f ms", p.Step, float64(p.Took.Microseconds())/1000)
	}
}
