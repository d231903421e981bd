package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/upgrade"
)

func (a *app) upgradeCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace this program by the newest release, after verifying it",
		Long: `Replace this program by the newest release, after verifying its signature and
checksum. Running guests are not concerned. MVM_RELEASE_URL names a mirror.`,
		Example: "  mvm upgrade --check\n  mvm upgrade",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := upgrade.Self(cmd.Context(), os.Getenv("MVM_RELEASE_URL"), check)
			if err != nil {
				return fmt.Errorf("cannot upgrade: %w", err)
			}
			if a.json {
				return a.printJSON(done)
			}
			fmt.Fprintln(a.Out, done)
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only say whether there is a newer one")
	a.jsonFlag(cmd, upgrade.Done{})
	return cmd
}
