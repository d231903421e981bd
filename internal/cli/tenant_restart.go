package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantRestart() *cobra.Command {
	var (
		stop lifecycle.StopOptions
		run  lifecycle.RunOptions
	)
	cmd := &cobra.Command{
		Use:   "restart <id>…",
		Short: "Stop a tenant's microVM and start it again, with what was set and built meanwhile",
		Long: `Stop a tenant's microVM and start it again, with what was set and built
meanwhile. One that does not run is only started; one that could not be started
is not stopped.`,
		Example: `  mvm tenant restart acme
  mvm tenant restart acme beta --force`,
	}
	a.onTenants(cmd, tenantsVerb{
		what: "restart", first: mustExist,
		do: func(ctx context.Context, h *lifecycle.Host, id string) (string, error) {
			done, err := h.Restart(ctx, id, stop, a.following(h, run))
			return ran(id, done, run.NoWait), err
		},
	})
	stopFlags(cmd, &stop)
	cmd.Flags().BoolVar(&run.NoWait, "no-wait", false, "return as soon as the VMM runs")
	return cmd
}
