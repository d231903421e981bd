package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantRun() *cobra.Command {
	var opts lifecycle.RunOptions
	var file string
	cmd := &cobra.Command{
		Use:   "run <id>…",
		Short: "Start a tenant's microVM and wait until the guest answers on SSH",
		Long: `Start a tenant's microVM and wait until the guest answers on SSH.

On the software tier as many guests boot side by side as there are CPUs. A tenant
that has to wait for its turn can be stopped meanwhile, and --timeout begins when
it boots.

Ctrl-C while waiting for the guest, or for its turn, stops the waiting, not the
guest.`,
		Example: `  mvm tenant run acme
  mvm tenant run acme beta gamma --no-wait
  mvm tenant run acme --trace run.json`,
	}
	a.onTenants(cmd, tenantsVerb{
		what: "run",
		first: func(ctx context.Context, h *lifecycle.Host, ids []string) error {
			if file != "" && len(ids) > 1 {
				return &tenant.InputError{Msg: "--trace writes the steps of one start", Hint: "name one tenant, or leave out --trace"}
			}
			return mustExist(ctx, h, ids)
		},
		do: func(ctx context.Context, h *lifecycle.Host, id string) (string, error) {
			var done lifecycle.Ran
			err := traced(ctx, file, "mvm tenant run "+id, func(ctx context.Context) (err error) {
				done, err = h.Run(ctx, id, a.following(h, opts))
				return err
			})
			return ran(id, done, opts.NoWait), err
		},
	})
	f := cmd.Flags()
	f.BoolVar(&opts.NoWait, "no-wait", false, "return as soon as the VMM runs")
	f.DurationVar(&opts.Timeout, "timeout", 0, "how long to wait for the guest (default: limits.ssh_timeout_sec)")
	f.StringVar(&file, "trace", "", "write how long each step took to this `file`, for ui.perfetto.dev or chrome://tracing")
	return cmd
}

// ran says what became of a run.
func ran(id string, done lifecycle.Ran, noWait bool) string {
	switch {
	case done.Already:
		return fmt.Sprintf("tenant %s runs already: %s", id, done.State.Net.IP)
	case noWait:
		return fmt.Sprintf("tenant %s started: %s, %s tier", id, done.State.Net.IP, done.State.Tier)
	default:
		return fmt.Sprintf("tenant %s runs: %s, %s tier, answers on SSH after %s", id, done.State.Net.IP, done.State.Tier, seconds(done.Ready))
	}
}

// following is opts of a start whose steps are told, those of several side by
// side only to who wants to know more.
func (a *app) following(h *lifecycle.Host, opts lifecycle.RunOptions) lifecycle.RunOptions {
	opts.Progress = func(p supervisor.Progress) {
		if a.several && !a.verbose {
			p.Step = ""
		}
		showStep(h.Say, p)
	}
	return opts
}

// showStep tells of one finished step of a start.
func showStep(say func(format string, args ...any), p supervisor.Progress) {
	if p.Note != "" {
		say("  %s", p.Note)
	}
	if p.Step != "" {
		say("  %-10s %7.1f ms", p.Step, float64(p.Took.Microseconds())/1000)
	}
}
