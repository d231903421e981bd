package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/devvm"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) gcCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove images, source snapshots, build folders and Nix stores that no tenant uses",
		Long: `Remove images, source snapshots, build folders and Nix stores that no tenant
uses. What the dev microVM has of its own is looked through, too, and named dev/….`,
		Example: `  mvm gc --dry-run
  mvm gc`,
		Args: exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			items, err := devvm.GC(ctx, h, dryRun)
			if a.json {
				if printErr := a.printJSON(orEmpty(items)); printErr != nil {
					return printErr
				}
				return err
			}
			verb, total := "removed", int64(0)
			if dryRun {
				verb = "would remove"
			}
			for _, i := range items {
				size := ""
				if i.Bytes >= 0 {
					size, total = ", "+byteSize(i.Bytes), total+i.Bytes
				}
				a.result("%s %s %s%s", verb, i.Kind, i.Name, size)
			}
			switch {
			case err != nil:
			case len(items) == 0:
				a.note("nothing to remove")
			case dryRun:
				a.note("%s would be free again", byteSize(total))
			default:
				a.note("%s are free again", byteSize(total))
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would go, remove nothing")
	a.jsonFlag(cmd, []build.GCItem{})
	return cmd
}
