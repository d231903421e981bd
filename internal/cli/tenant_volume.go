package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/userfile"
)

func (a *app) tenantVolume() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "volume",
		Short: "Look at a tenant's volumes, grow and destroy them; check, copy and keep states of its data",
		Example: `  mvm tenant volume show acme
  mvm tenant volume snapshot acme before-upgrade`,
		Long: `Look at a tenant's volumes, grow and destroy them; check, copy and keep states
of its data.

show and grow are for all its volumes, destroy and adopt for those beside the
data, the others for the data volume alone. All but show, grow, and a snapshot
where the host's file system shares blocks, want the tenant stopped. An operation
that is killed has not happened; growing under a guest that runs may have, and
completes when it is asked for again. So do destroy and adopt.`,
	})
	cmd.AddCommand(
		a.volumeShow(), a.volumeCheck(), a.volumeGrow(), a.volumeTrim(), a.volumeExport(), a.volumeImport(),
		a.volumeSnapshot(), a.volumeRollback(), a.volumeRm(), a.volumeDestroy(), a.volumeAdopt(),
	)
	waitFlags(cmd, "show")
	return cmd
}

func (a *app) volumeShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show <id>",
		Short:   "Print the size and state of a data volume, its snapshots, and the volumes beside it",
		Example: "  mvm tenant volume show acme",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("show the volume of", func(_ context.Context, h *lifecycle.Host, args []string) error {
			v, err := h.ShowVolume(args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			state := "clean"
			switch {
			case v.Errors:
				state = "the guest's kernel met errors: mvm tenant volume check " + args[0]
			case v.Dirty:
				state = "in use, or not unmounted cleanly"
			}
			fmt.Fprintf(a.Out, "%s\n%s large, %s used in the guest, %s on this host's disk; %s\n", v.Path, byteSize(v.Size), byteSize(v.Used), byteSize(v.Allocated), state)
			if err := a.printBeside(v.Beside); err != nil || len(v.Snapshots) == 0 {
				return err
			}
			t := &table{head: []string{"SNAPSHOT", "SIZE", "ON DISK", "MADE"}}
			for _, s := range v.Snapshots {
				t.row(s.Name, byteSize(s.Size), byteSize(s.Allocated), ago(time.Now(), s.Time))
			}
			return a.printTable(t)
		}),
	}
	a.jsonFlag(cmd, lifecycle.Volume{})
	return cmd
}

func (a *app) printBeside(list []lifecycle.Beside) error {
	if len(list) == 0 {
		return nil
	}
	t := &table{head: []string{"BESIDE", "SIZE", "ON DISK", "IN THE SPEC"}}
	for _, b := range list {
		named := "yes"
		if !b.Named {
			named = "no"
		}
		t.row(b.Mount, byteSize(b.Size), byteSize(b.Allocated), named)
	}
	return a.printTable(t)
}

func (a *app) volumeCheck() *cobra.Command {
	var repair, yes bool
	cmd := &cobra.Command{
		Use:     "check <id>",
		Short:   "Read a whole data volume and say what is wrong with it",
		Example: "  mvm tenant volume check acme\n  mvm tenant volume check acme --repair",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("check the volume of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			if repair {
				if err := a.confirmOn(ctx, h, args[0], "Repair the volume, which may drop what cannot be saved", yes); err != nil {
					return err
				}
			}
			said, err := h.CheckVolume(ctx, args[0], repair)
			if said != "" {
				a.note("%s", said)
			}
			if err == nil {
				a.result("the data volume of tenant %s is sound", args[0])
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "put right what can be")
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) volumeGrow() *cobra.Command {
	return &cobra.Command{
		Use:   "grow <id> <MiB | size:mount>",
		Short: "Make a volume larger; it cannot shrink",
		Long: `Make a volume larger; it cannot shrink.

A number of MiB is the data volume's. Of a volume beside it, say its size and
where it is mounted.

A guest that runs sees the larger disk at once. Its file system grows with it
where the guest has resize2fs, and else at the next start.`,
		Example: "  mvm tenant volume grow acme 4096\n  mvm tenant volume grow acme 20G:/work",
		Args:    exactArgs(2, "a tenant id and the new size"),
		RunE: a.onTenant("grow the volume of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			v, err := parseGrowth(args[1])
			if err != nil {
				return err
			}
			done, err := h.GrowVolume(ctx, args[0], v)
			if err != nil {
				return err
			}
			name, when := "data volume", ""
			if v.Mount != tenant.DataMount {
				name = "volume " + v.Mount
			}
			switch {
			case len(done.Next) > 0:
				when = " at the next run"
			case len(done.Now) == 0:
				when = " already"
			}
			a.result("the %s of tenant %s has %d MiB%s", name, args[0], v.SizeMiB, when)
			if done.Note != "" {
				a.note("%s", done.Note)
			}
			return nil
		}),
	}
}

// parseGrowth reads what a volume is to become.
func parseGrowth(text string) (tenant.Volume, error) {
	if strings.Contains(text, ":") {
		v, err := tenant.ParseVolume(text)
		if err == nil && v.SizeMiB == 0 {
			err = &tenant.InputError{Msg: fmt.Sprintf("%q is no size of a volume", text), Hint: "mvm tenant volume grow acme 20G:/work"}
		}
		return v, err
	}
	mib, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(mib) != text {
		return tenant.Volume{}, &tenant.InputError{Msg: fmt.Sprintf("%q is no number of MiB", text), Hint: "mvm tenant volume grow acme 4096, or 20G:/work for a volume beside the data"}
	}
	return tenant.Volume{Mount: tenant.DataMount, SizeMiB: mib}, nil
}

func (a *app) volumeTrim() *cobra.Command {
	return &cobra.Command{
		Use:     "trim <id>",
		Short:   "Give this host's disk back what the guest has deleted",
		Example: "  mvm tenant volume trim acme",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("trim the volume of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			freed, err := h.TrimVolume(ctx, args[0])
			if err == nil {
				a.result("%s given back", byteSize(freed))
			}
			return err
		}),
	}
}

func (a *app) volumeExport() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "export <id>",
		Short: "Write a data volume to a file or standard output, as a zstd stream",
		Example: `  mvm tenant volume export acme --to acme.zst
  mvm tenant volume export acme | ssh elsewhere mvm tenant volume import acme --yes`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("export the volume of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			if to != "-" {
				file, err := userfile.Replaceable(to)
				if err != nil {
					return err
				}
				return atomicfile.Replace(file, 0o600, func(w io.Writer) error { return h.ExportVolume(ctx, args[0], w) })
			}
			if f, ok := a.Out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				return &tenant.InputError{Msg: "a volume is nothing for a terminal", Hint: "name a file with --to, or pipe it"}
			}
			return h.ExportVolume(ctx, args[0], &stream{ctx: ctx, out: a.Out})
		}),
	}
	cmd.Flags().StringVar(&to, "to", "-", "the file; - is standard output")
	return cmd
}

func (a *app) volumeImport() *cobra.Command {
	var from string
	var yes bool
	cmd := &cobra.Command{
		Use:   "import <id>",
		Short: "Replace a data volume by one that was exported",
		Example: `  mvm tenant volume import acme --from acme.zst
  mvm tenant volume import acme --yes < acme.zst`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("import a volume into", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			if err := a.confirmOn(ctx, h, args[0], fmt.Sprintf("Replace the data volume of tenant %s", args[0]), yes); err != nil {
				return err
			}
			in, err := a.openInput(from)
			if err != nil {
				return err
			}
			defer in.Close()
			said, err := h.ImportVolume(ctx, args[0], in)
			if said != "" {
				a.note("%s", said)
			}
			if err == nil {
				a.result("tenant %s has the imported volume", args[0])
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&from, "from", "-", "the file; - is standard input")
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) volumeSnapshot() *cobra.Command {
	return &cobra.Command{
		Use:     "snapshot <id> <name>",
		Short:   "Keep the present state of a data volume under a name",
		Example: "  mvm tenant volume snapshot acme before-upgrade",
		Args:    exactArgs(2, "a tenant id and a name"),
		RunE: a.onTenant("snapshot the volume of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			shared, already, err := h.SnapshotVolume(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if already {
				a.result("snapshot %s of tenant %s is kept already", args[1], args[0])
				return nil
			}
			a.noteCopy(shared)
			a.result("snapshot %s of tenant %s is kept", args[1], args[0])
			return nil
		}),
	}
}

// noteCopy says why a snapshot or a rollback took time and room.
func (a *app) noteCopy(shared bool) {
	if !shared {
		a.note("it is a full copy: this file system cannot share blocks")
	}
}

func (a *app) volumeRollback() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rollback <id> <snapshot>",
		Short:   "Put a snapshot in the place of the data volume; the snapshot stays",
		Example: "  mvm tenant volume rollback acme before-upgrade",
		Args:    exactArgs(2, "a tenant id and a snapshot's name"),
		RunE: a.onTenant("roll back the volume of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			there, err := h.HasSnapshot(args[0], args[1])
			if err != nil {
				return err
			}
			if err := a.confirmLoss(ctx, there, fmt.Sprintf("Lose what tenant %s has written since snapshot %s", args[0], args[1]), yes); err != nil {
				return err
			}
			shared, err := h.RollbackVolume(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			a.noteCopy(shared)
			a.result("tenant %s has the state of snapshot %s", args[0], args[1])
			return nil
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) volumeRm() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm <id> <snapshot>",
		Short:   "Remove a snapshot of a data volume",
		Example: "  mvm tenant volume rm acme before-upgrade",
		Args:    exactArgs(2, "a tenant id and a snapshot's name"),
		RunE: a.onTenant("remove a snapshot of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			there, err := h.HasSnapshot(args[0], args[1])
			if err != nil {
				return err
			}
			if err := a.confirmLoss(ctx, there, fmt.Sprintf("Remove snapshot %s of tenant %s", args[1], args[0]), yes); err != nil {
				return err
			}
			if err := h.RemoveSnapshot(ctx, args[0], args[1]); err != nil {
				return err
			}
			a.result("snapshot %s of tenant %s is gone", args[1], args[0])
			return nil
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) volumeDestroy() *cobra.Command {
	var wipe, yes bool
	cmd := &cobra.Command{
		Use:   "destroy <id> <mount>",
		Short: "Take a volume beside the data away; it is kept aside unless told otherwise",
		Long: `Take a volume beside the data away; it is kept aside unless told otherwise.

What is kept is listed by mvm retained list, and given back by mvm tenant volume
adopt. The tenant must be stopped.`,
		Example: "  mvm tenant volume destroy acme /work\n  mvm tenant volume destroy acme /work --wipe --yes",
		Args:    exactArgs(2, "a tenant id and the place where the volume is mounted"),
		RunE: a.onTenant("destroy a volume of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			id, mount := args[0], args[1]
			there, err := h.VolumeRemains(id, mount)
			if err != nil {
				return err
			}
			if there {
				what := fmt.Sprintf("Destroy the volume %s of tenant %s", mount, id)
				if wipe {
					what += " and wipe it"
				}
				if err := a.confirm(ctx, what, yes); err != nil {
					return err
				}
			}
			done, err := h.DestroyVolume(ctx, id, mount, wipe)
			if err != nil {
				return err
			}
			switch {
			case done.Already:
				a.result("tenant %s has no volume %s already", id, mount)
			case done.Retained != "":
				a.result("volume %s of tenant %s destroyed; it is kept as %s", mount, id, filepath.Base(done.Retained))
			default:
				a.result("volume %s of tenant %s destroyed", mount, id)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&wipe, "wipe", false, "remove it for good")
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) volumeAdopt() *cobra.Command {
	return &cobra.Command{
		Use:     "adopt <id> <retained>",
		Short:   "Give a tenant a volume beside the data back that was destroyed and kept",
		Example: "  mvm tenant volume adopt acme acme-20260801T101500.000Z",
		Args:    exactArgs(2, "a tenant id and the name of a retained volume"),
		RunE: a.onTenant("adopt a volume for", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			volumes, err := h.AdoptVolume(ctx, args[0], args[1])
			switch {
			case err != nil:
				return err
			case len(volumes) == 0:
				a.result("nothing is kept as %s any more: it was adopted or removed already", args[1])
			default:
				a.result("tenant %s has %s again", args[0], volumes)
			}
			return nil
		}),
	}
}
