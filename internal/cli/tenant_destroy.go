package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantDestroy() *cobra.Command {
	var (
		opts lifecycle.DestroyOptions
		yes  bool
	)
	cmd := &cobra.Command{
		Use:   "destroy <id>",
		Short: "Stop a tenant and remove it; its data volume is kept aside unless told otherwise",
		Example: `  mvm tenant destroy acme
  mvm tenant destroy acme --wipe-volumes --yes`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("destroy", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			what := fmt.Sprintf("Destroy tenant %s", args[0])
			if opts.WipeVolumes {
				what += " and wipe its data volume"
			}
			there, err := h.Remains(args[0])
			if err != nil {
				return err
			}
			if there {
				if err := a.confirm(ctx, what, yes); err != nil {
					return err
				}
			}
			done, err := h.Destroy(ctx, args[0], opts)
			if err != nil {
				return err
			}
			switch {
			case done.Already:
				a.result("tenant %s was destroyed already", args[0])
			case done.Retained != "":
				a.result("tenant %s destroyed; its data volume is kept as %s", args[0], filepath.Base(done.Retained))
			default:
				a.result("tenant %s destroyed", args[0])
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&opts.WipeVolumes, "wipe-volumes", false, "remove the data volume, too")
	yesFlag(cmd, &yes)
	waitFlag(cmd)
	return cmd
}
