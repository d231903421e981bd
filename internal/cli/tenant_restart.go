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
		Use:   "restart <id>",
		Short: "Stop a tenant's microVM and start it again, with what was set and built meanwhile",
		Long: `Stop a tenant's microVM and start it again, with what was set and built
meanwhile. One that does not run is only started; one that could not be started
is not stopped.`,
		Example: `  mvm tenant restart acme
  mvm tenant restart acme --force`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("restart", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			run.Progress = a.showStep
			done, err := h.Restart(ctx, args[0], stop, run)
			if err != nil {
				return err
			}
			a.printRan(args[0], done, run.NoWait)
			return nil
		}),
	}
	stopFlags(cmd, &stop)
	cmd.Flags().BoolVar(&run.NoWait, "no-wait", false, "return as soon as the VMM runs")
	waitFlag(cmd)
	return cmd
}
