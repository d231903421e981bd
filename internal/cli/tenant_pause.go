package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantPause() *cobra.Command {
	return a.pauseVerb("pause", "Stop the guest's vCPUs; its memory stays", "paused", (*lifecycle.Host).Pause)
}

func (a *app) tenantResume() *cobra.Command {
	return a.pauseVerb("resume", "Let a paused guest go on", "runs", (*lifecycle.Host).Resume)
}

func (a *app) pauseVerb(verb, short, result string, do func(*lifecycle.Host, context.Context, string) (bool, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     verb + " <id>",
		Short:   short,
		Example: "  mvm tenant " + verb + " acme",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant(verb, func(ctx context.Context, h *lifecycle.Host, args []string) error {
			already, err := do(h, ctx, args[0])
			if err != nil {
				return err
			}
			a.result("tenant %s %s%s", args[0], result, alreadySo(already))
			return nil
		}),
	}
	waitFlag(cmd)
	return cmd
}
