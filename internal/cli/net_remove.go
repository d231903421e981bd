package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) netRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove",
		Short: "Take the tenants' network off this host, also out of its other firewalls",
		Long: `Take the tenants' network off this host, also out of its other firewalls.

No tenant may run. Bridges, rules, and the rules that mvm has put into other
firewalls go; IPv4 forwarding stays on. The next tenant that runs makes all of
it anew.`,
		Example: "  mvm net remove",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			acts, err := h.RemoveNetwork(ctx)
			for _, act := range acts {
				fmt.Fprintln(a.plain(), act)
			}
			if err == nil && len(acts) == 0 {
				a.result("there is none")
			}
			return err
		}),
	}
}
