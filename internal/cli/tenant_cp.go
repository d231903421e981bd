package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/archive"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantCp() *cobra.Command {
	return &cobra.Command{
		Use:   "cp <from> <to>",
		Short: "Copy a file or folder into a guest, or out of it",
		Long: `Copy a file or folder into a guest, or out of it.

One side is a path of this host, the other <id>:<path>. Where the target is a
folder, or ends with a slash, the copy goes into it. Links, devices and pipes
are not copied, and what comes from a guest belongs to whoever calls. It stops
where this host's disk would keep less than a twentieth of its size, or 1 GiB.`,
		Example: `  mvm tenant cp ./site acme:/data/
  mvm tenant cp acme:/data/report.pdf .`,
		Args: exactArgs(2, "what to copy and where to"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
			fromID, fromPath, out := archive.GuestPath(args[0])
			toID, toPath, in := archive.GuestPath(args[1])
			var err error
			switch {
			case in == out:
				return &tenant.InputError{Msg: "one side has to be a tenant's, <id>:<path>, and the other a path of this host", Hint: "write ./name for a name with a colon"}
			case in:
				err = h.CopyIn(ctx, args[0], toID, toPath)
			default:
				err = h.CopyOut(ctx, fromID, fromPath, args[1])
			}
			if err != nil {
				return fmt.Errorf("cannot copy %s to %s: %w", args[0], args[1], err)
			}
			return nil
		}),
	}
}
