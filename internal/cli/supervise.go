package cli

import (
	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
)

// superviseCommand is what mvm tenant run starts; nobody types it.
func (a *app) superviseCommand() *cobra.Command {
	var insist bool
	cmd := &cobra.Command{
		Use:    supervisor.Verb + " <id>",
		Hidden: true,
		Args:   exactArgs(1, "one tenant id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := lifecycle.Open(a.root)
			if err != nil {
				return err
			}
			return supervisor.Main(cmd.Context(), h.Store, h.Config, args[0], supervisor.First(insist))
		},
	}
	cmd.Flags().BoolVar(&insist, "insist", false, "try again where the first start fails, as the restart policy says")
	return cmd
}
