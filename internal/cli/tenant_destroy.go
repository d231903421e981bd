package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantDestroy() *cobra.Command {
	var (
		opts lifecycle.DestroyOptions
		yes  bool
	)
	cmd := &cobra.Command{
		Use:   "destroy <id>…",
		Short: "Stop a tenant and remove it; its data volume is kept aside unless told otherwise",
		Example: `  mvm tenant destroy acme
  mvm tenant destroy acme beta --wipe-volumes --yes`,
	}
	cmd.Flags().BoolVar(&opts.WipeVolumes, "wipe-volumes", false, "remove the data volume, too")
	yesFlag(cmd, &yes)
	a.onTenants(cmd, tenantsVerb{
		what: "destroy",
		first: func(ctx context.Context, h *lifecycle.Host, ids []string) error {
			var there []string
			for _, id := range ids {
				remains, err := h.Remains(id)
				if err != nil {
					return err
				}
				if remains {
					there = append(there, id)
				}
			}
			if len(there) == 0 {
				return nil
			}
			return a.confirm(ctx, destroyQuestion(there, opts), yes)
		},
		do: func(ctx context.Context, h *lifecycle.Host, id string) (string, error) {
			done, err := h.Destroy(ctx, id, opts)
			switch {
			case done.Already:
				return fmt.Sprintf("tenant %s was destroyed already", id), err
			case done.Retained != "":
				return fmt.Sprintf("tenant %s destroyed; its data volume is kept as %s", id, filepath.Base(done.Retained)), err
			}
			return fmt.Sprintf("tenant %s destroyed", id), err
		},
	})
	return cmd
}

func destroyQuestion(ids []string, opts lifecycle.DestroyOptions) string {
	question, volumes := "Destroy tenant "+ids[0], " and wipe its data volume"
	if len(ids) > 1 {
		question, volumes = "Destroy tenants "+strings.Join(ids, ", "), " and wipe their data volumes"
	}
	if opts.WipeVolumes {
		question += volumes
	}
	return question
}
