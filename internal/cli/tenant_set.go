package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantSet() *cobra.Command {
	var (
		to    tenant.Spec
		given func(flag string) bool
	)
	cmd := &cobra.Command{
		Use:   "set <id>",
		Short: "Change a tenant's spec; says what takes effect when",
		Example: `  mvm tenant set acme --cpus 4 --mem 2048
  mvm tenant set acme --egress none`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("change", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			done, err := h.Set(ctx, args[0], dir, func(s *tenant.Spec) {
				for flag, assign := range map[string]func(){
					"flake":     func() { s.FlakeRef = to.FlakeRef },
					"profile":   func() { s.Profile = to.Profile },
					"cpus":      func() { s.VCPUs = to.VCPUs },
					"mem":       func() { s.MemMiB = to.MemMiB },
					"data-size": func() { s.DataMiB = to.DataMiB },
					"egress":    func() { s.Egress = to.Egress },
					"restart":   func() { s.Restart = to.Restart },
				} {
					if given(flag) {
						assign()
					}
				}
			})
			if err != nil {
				return err
			}
			for when, list := range map[string][]string{"now": done.Now, "at the next run": done.Next, "at the next build and run": done.Make} {
				for _, c := range list {
					fmt.Fprintf(a.Out, "%s, %s\n", c, when)
				}
			}
			if len(done.Now)+len(done.Next)+len(done.Make) == 0 {
				fmt.Fprintf(a.Out, "tenant %s is so already\n", args[0])
			}
			return nil
		}),
	}
	specFlags(cmd, &to)
	given = cmd.Flags().Changed
	waitFlag(cmd)
	return cmd
}

// specFlags adds the flags that make up a spec, with its defaults.
func specFlags(cmd *cobra.Command, spec *tenant.Spec) {
	f := cmd.Flags()
	f.StringVar(&spec.FlakeRef, "flake", tenant.DefaultFlake, "where the guest is defined: a folder with a flake.nix, or a flake reference")
	f.StringVar(&spec.Profile, "profile", tenant.DefaultProfile, "which guest of the flake")
	f.IntVar(&spec.VCPUs, "cpus", tenant.DefaultVCPUs, "number of vCPUs, 1 to 32")
	f.IntVar(&spec.MemMiB, "mem", tenant.DefaultMemMiB, "memory in MiB")
	f.IntVar(&spec.DataMiB, "data-size", tenant.DefaultDataMiB, "size of the data volume in MiB; it can grow, not shrink")
	f.StringVar(&spec.Egress, "egress", "open", "what the guest may reach: open, none or allow:<cidr>[:<tcp|udp>/<port>],…")
	f.StringVar(&spec.Restart, "restart", "no", "when to start it again: no, on-failure[:n], always or unless-stopped")
}
