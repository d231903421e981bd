package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantStop() *cobra.Command {
	var opts lifecycle.StopOptions
	cmd := &cobra.Command{
		Use: "stop <id>…",
		Example: `  mvm tenant stop acme
  mvm tenant stop acme beta --timeout 2m
  mvm tenant stop --all`,
		Short: "Ask the guest to stop, and make it stop after the deadline",
	}
	stopFlags(cmd, &opts)
	a.onTenants(cmd, tenantsVerb{
		what: "stop", first: mustExist, all: (*lifecycle.Host).ToStop,
		do: func(ctx context.Context, h *lifecycle.Host, id string) (string, error) {
			already, err := h.Stop(ctx, id, opts)
			if already {
				return fmt.Sprintf("tenant %s does not run", id), err
			}
			return fmt.Sprintf("tenant %s stopped", id), err
		},
	})
	return cmd
}

func stopFlags(cmd *cobra.Command, opts *lifecycle.StopOptions) {
	cmd.Flags().DurationVar(&opts.Timeout, "timeout", 0, "how long the guest may take to stop (default: limits.stop_timeout_sec)")
	cmd.Flags().BoolVar(&opts.Force, "force", false, "do not ask the guest")
}
