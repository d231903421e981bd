package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/fleet"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "export [id]…",
		Short:   "Print the file from which mvm apply makes these tenants, or all",
		Example: "  mvm export > tenants.yaml\n  mvm export acme web",
		RunE: a.onHost(func(_ context.Context, h *lifecycle.Host, args []string) error {
			wishes, err := h.Fleet(args)
			if err != nil {
				return err
			}
			data, err := fleet.Encode(wishes)
			if err != nil {
				return err
			}
			_, err = a.Out.Write(data)
			return err
		}),
	}
}
