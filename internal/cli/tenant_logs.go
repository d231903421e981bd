package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

func (a *app) tenantLogs() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:     "logs <id>",
		Short:   "Print a tenant's console, or another of its logs",
		Example: "  mvm tenant logs acme\n  mvm tenant logs acme --source build",
		Args:    exactArgs(1, "one tenant id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			path, err := h.LogFile(args[0], source)
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if errors.Is(err, fs.ErrNotExist) {
				a.note("there is no %s log of %s yet", source, args[0])
				return nil
			}
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(a.Out, f)
			return err
		},
	}
	cmd.Flags().StringVar(&source, "source", "console", "console, vmm, supervisor or build")
	return cmd
}
