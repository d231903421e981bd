package cli

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantCreate() *cobra.Command {
	var (
		spec tenant.Spec
		opts lifecycle.CreateOptions

		volumes []string
	)
	cmd := &cobra.Command{
		Use:   "create <id>",
		Short: "Create a tenant: its keys, its address and its data volume",
		Example: `  mvm tenant create acme --flake ./nix/debian --profile minimal --cpus 2 --mem 512
  mvm tenant create web --flake github:example/guests --egress allow:198.51.100.0/24:tcp/443`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("create", func(ctx context.Context, h *lifecycle.Host, args []string) (err error) {
			spec.SchemaVersion, spec.TenantID = tenant.SchemaVersion, args[0]
			if opts.Dir, err = os.Getwd(); err != nil {
				return err
			}
			changes, err := parseVolumes(volumes)
			if err != nil {
				return err
			}
			spec.ChangeVolumes(changes)
			done, err := h.Create(ctx, spec, opts)
			if err != nil {
				return err
			}
			if done.Already {
				a.result("tenant %s exists already, with these values", args[0])
				return nil
			}
			a.result("tenant %s created: %s, %s", args[0], done.State.Net.IP, done.State.Net.TAP)
			if near := nearest(spec.Profile, ownProfiles); near != "" && !slices.Contains(ownProfiles, spec.Profile) {
				a.note("its build will look for a profile %s; if %s was meant: mvm tenant set %s --profile %[2]s", spec.Profile, near, args[0])
			}
			if done.Adopted != "" {
				a.note("its data volume is the retained %s", done.Adopted)
			}
			if len(done.Retained) > 0 {
				a.note("retained data volumes of earlier tenants of this id: %s (--adopt-volumes takes the newest)", strings.Join(done.Retained, ", "))
			}
			return nil
		}),
	}
	specFlags(cmd, &spec)
	volumeFlag(cmd, &volumes)
	cmd.Flags().BoolVar(&opts.AdoptVolumes, "adopt-volumes", false, "take the data volume that destroying an earlier tenant of this id kept")
	waitFlag(cmd)
	return cmd
}
