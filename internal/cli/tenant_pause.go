package cli

import (
	"context"
	"fmt"

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
		Use:     verb + " <id>…",
		Short:   short,
		Example: "  mvm tenant " + verb + " acme\n  mvm tenant " + verb + " acme beta",
	}
	a.onTenants(cmd, tenantsVerb{
		what: verb, first: mustExist,
		do: func(ctx context.Context, h *lifecycle.Host, id string) (string, error) {
			already, err := do(h, ctx, id)
			return fmt.Sprintf("tenant %s %s%s", id, result, alreadySo(already)), err
		},
	})
	return cmd
}
