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
			if a.json {
				return a.printJSON(buildinfo.Get())
			}
			return a.printVersion()
		},
	}
	a.jsonFlag(cmd, buildinfo.Info{})
	return cmd
}

func (a *app) printVersion() error {
	v := buildinfo.Get()
	_, err := fmt.Fprintf(a.Out, "mvm %s %s/%s\n", v.Version, v.OS, v.Arch)
	return err
}
