package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantStop() *cobra.Command {
	var opts lifecycle.StopOptions
	cmd := &cobra.Command{
		Use: "stop <id>",
		Example: `  mvm tenant stop acme
  mvm tenant stop acme --timeout 2m`,
		Short: "Ask the guest to stop, and make it stop after the deadline",
		Args:  exactArgs(1, "one tenant id"),
		RunE: a.onTenant("stop", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			already, err := h.Stop(ctx, args[0], opts)
			if err != nil {
				return err
			}
			if already {
				a.result("tenant %s does not run", args[0])
			} else {
				a.result("tenant %s stopped", args[0])
			}
			return nil
		}),
	}
	stopFlags(cmd, &opts)
	waitFlag(cmd)
	return cmd
}

func stopFlags(cmd *cobra.Command, opts *lifecycle.StopOptions) {
	cmd.Flags().DurationVar(&opts.Timeout, "timeout", 0, "how long the guest may take to stop (default: limits.stop_timeout_sec)")
	cmd.Flags().BoolVar(&opts.Force, "force", false, "do not ask the guest")
}
