package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/devvm"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) reconcileCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "reconcile",
		Example: `  mvm reconcile --dry-run
  mvm reconcile`,
		Short: "Bring everything to what specs and states say: after a reboot, a crash, a flushed firewall",
		Long: `Bring everything to what specs and states say.

Starts what should run, sweeps TAPs, cgroups, sockets, containers and files
that belong to nobody, restores the network, and reports every act. Tenants on
which another command is at work are left to it.`,
		Args: exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			acts, err := devvm.Reconcile(ctx, h, dryRun)
			if a.json {
				if printErr := a.printJSON(orEmpty(acts)); printErr != nil {
					return printErr
				}
				return err
			}
			for _, act := range acts {
				fmt.Fprintln(a.plain(), act)
			}
			if len(acts) == 0 && err == nil {
				a.result("everything is as it should be")
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, do nothing")
	a.jsonFlag(cmd, []lifecycle.Act{})
	return cmd
}
