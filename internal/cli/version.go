package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/buildinfo"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Example: `  mvm version --json`,
		Short:   "Print the version",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			v := buildinfo.Get()
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.Out, "mvm %s %s/%s\n", v.Version, v.OS, v.Arch)
			return nil
		},
	}
	a.jsonFlag(cmd, buildinfo.Info{})
	return cmd
}
