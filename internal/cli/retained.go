package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) retainedCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "retained",
		Short:   "List and remove the volumes that were destroyed and kept",
		Example: `  mvm retained list`,
	})
	cmd.AddCommand(a.retainedList(), a.retainedRm())
	return cmd
}

func (a *app) retainedList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the volumes that were destroyed and kept",
		Example: "  mvm retained list",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onHost(func(_ context.Context, h *lifecycle.Host, _ []string) error {
			list, err := h.RetainedVolumes()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(orEmpty(list))
			}
			if len(list) == 0 {
				a.note("no volume is retained")
				return nil
			}
			t := &table{head: []string{"RETAINED", "VOLUMES", "ON DISK"}}
			for _, k := range list {
				t.row(k.Name, strings.Join(k.Volumes, " "), byteSize(k.Allocated))
			}
			return a.printTable(t)
		}),
	}
	a.jsonFlag(cmd, []lifecycle.Kept{})
	return cmd
}

func (a *app) retainedRm() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm <retained>",
		Short:   "Remove a retained volume for good",
		Example: "  mvm retained rm acme-20260801T101500.000Z",
		Args:    exactArgs(1, "the name of a retained volume"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
			there, err := h.RetainedRemains(args[0])
			if err != nil {
				return fmt.Errorf("cannot remove a retained volume: %w", err)
			}
			if there {
				if err := a.confirm(ctx, fmt.Sprintf("Remove the retained volume %s for good", args[0]), yes); err != nil {
					return err
				}
			}
			already, err := h.RemoveRetained(ctx, args[0])
			if err != nil {
				return fmt.Errorf("cannot remove a retained volume: %w", err)
			}
			a.result("%s is gone%s", args[0], alreadySo(already))
			return nil
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}
