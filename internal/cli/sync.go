package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

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
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
			ref := "."
			if len(args) > 0 {
				ref = args[0]
			}
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			s, err := h.Sync(ctx, ref, dir)
			if err != nil {
				return fmt.Errorf("cannot snapshot %s: %w", ref, err)
			}
			if a.json {
				return a.printJSON(synced{s.Hash, s.NARHash, s.Path, s.FlakeDir, s.URL, s.Revision, s.Dirty, s.Bytes, orEmpty(s.Warnings)})
			}
			for _, w := range s.Warnings {
				a.note("warning: %s", w)
			}
			a.result("%s  %s, %s", s.NARHash, byteSize(s.Bytes), s.Path)
			return nil
		}),
	}
	a.jsonFlag(cmd, synced{})
	return cmd
}
