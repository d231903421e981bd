package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantStop() *cobra.Command {
	var (
		opts lifecycle.StopOptions
		wait time.Duration
	)
	cmd := &cobra.Command{
		Use: "stop <id>",
		Example: `  mvm tenant stop acme
  mvm tenant stop acme --timeout 2m`,
		Short: "Ask the guest to stop, and make it stop after the deadline",
		Args:  exactArgs(1, "one tenant id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			applyWait(h, wait)
			already, err := h.Stop(cmd.Context(), args[0], opts)
			if err != nil {
				return fmt.Errorf("cannot stop tenant %s: %w", args[0], err)
			}
			if already {
				fmt.Fprintf(a.Out, "tenant %s does not run\n", args[0])
			} else {
				fmt.Fprintf(a.Out, "tenant %s stopped\n", args[0])
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&opts.Timeout, "timeout", 0, "how long the guest may take (default: limits.stop_timeout_sec)")
	cmd.Flags().BoolVar(&opts.Force, "force", false, "do not ask the guest")
	waitFlag(cmd, &wait)
	return cmd
}
