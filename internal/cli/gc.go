package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/devvm"
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			items, err := devvm.GC(cmd.Context(), h, dryRun)
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
				fmt.Fprintf(a.Out, "%s %s %s%s\n", verb, i.Kind, i.Name, size)
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
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would go, remove nothing")
	a.jsonFlag(cmd, []build.GCItem{})
	return cmd
}

// synced is a snapshot as mvm sync --json prints it.
type synced struct {
	Hash     string   `json:"hash"`
	NARHash  string   `json:"nar_hash"`  // as Nix would say it
	Path     string   `json:"path"`      // where the snapshot is
	FlakeDir string   `json:"flake_dir"` // the flake's folder within it
	URL      string   `json:"url"`       // how builds name it
	Revision string   `json:"revision"`  // git's, where there is one
	Dirty    bool     `json:"dirty"`     // it differs from the revision
	Bytes    int64    `json:"bytes"`
	Warnings []string `json:"warnings"` // what may not be as meant
}

func (a *app) syncCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sync [flake]",
		Short: "Snapshot a local flake as builds will see it, and print its hash",
		Long: `Snapshot a local flake as builds will see it, and print its hash.

A snapshot holds what git tracks plus what it does not ignore, and never
changes. A build makes it by itself; sync tells beforehand what it will hold.`,
		Example: "  mvm sync\n  mvm sync ./nix/debian",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			ref := optional(args)
			if ref == "" {
				ref = "."
			}
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			s, err := h.Sync(cmd.Context(), ref, dir)
			if err != nil {
				return fmt.Errorf("cannot snapshot %s: %w", ref, err)
			}
			if a.json {
				return a.printJSON(synced{s.Hash, s.NARHash, s.Path, s.FlakeDir, s.URL, s.Revision, s.Dirty, s.Bytes, orEmpty(s.Warnings)})
			}
			for _, w := range s.Warnings {
				a.note("warning: %s", w)
			}
			fmt.Fprintf(a.Out, "%s  %s, %s\n", s.NARHash, byteSize(s.Bytes), s.Path)
			return nil
		},
	}
	a.jsonFlag(cmd, synced{})
	return cmd
}
