package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantSet() *cobra.Command {
	var (
		to    tenant.Spec
		given func(flag string) bool

		volumes []string
	)
	cmd := &cobra.Command{
		Use:   "set <id>",
		Short: "Change a tenant's spec; says what takes effect when",
		Long: `Change a tenant's spec; says what takes effect when.

What is not given stays as it is.`,
		Example: `  mvm tenant set acme --cpus 4 --mem 2048
  mvm tenant set acme --egress none`,
		Args: changesSomething,
		RunE: a.onTenant("change", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			changes, err := parseVolumes(volumes)
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

					"balloon":             func() { s.Balloon = to.Balloon },
					"huge-pages":          func() { s.HugePages = to.HugePages },
					"cpu-template":        func() { s.CPUTemplate = to.CPUTemplate },
					"disk-mib-per-sec":    func() { s.DiskMiBPerSec = to.DiskMiBPerSec },
					"disk-ops-per-sec":    func() { s.DiskOpsPerSec = to.DiskOpsPerSec },
					"net-rx-mbit":         func() { s.NetRxMbit = to.NetRxMbit },
					"net-tx-mbit":         func() { s.NetTxMbit = to.NetTxMbit },
					"net-rx-pkts-per-sec": func() { s.NetRxPktsPerSec = to.NetRxPktsPerSec },
					"net-tx-pkts-per-sec": func() { s.NetTxPktsPerSec = to.NetTxPktsPerSec },
				} {
					if given(flag) {
						assign()
					}
				}
				s.ChangeVolumes(changes)
			})
			if err != nil {
				return err
			}
			for _, part := range []struct {
				when    string
				changes []string
			}{{"now", done.Now}, {"at the next run", done.Next}, {"at the next build and run", done.Make}} {
				for _, c := range part.changes {
					a.result("%s, %s", c, part.when)
				}
			}
			if done.Note != "" {
				a.note("%s", done.Note)
			}
			if len(done.Now)+len(done.Next)+len(done.Make) == 0 {
				a.result("tenant %s is so already", args[0])
			}
			return nil
		}),
	}
	specFlags(cmd, &to)
	volumeFlag(cmd, &volumes)
	cmd.Flags().VisitAll(keepsItsValue)
	given = cmd.Flags().Changed
	waitFlag(cmd)
	return cmd
}

// changesSomething takes one tenant id and at least one flag of the spec.
func changesSomething(cmd *cobra.Command, args []string) error {
	if err := exactArgs(1, "one tenant id")(cmd, args); err != nil {
		return err
	}
	changes := false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { changes = changes || f.Changed && f.Name != "wait" })
	if !changes {
		return &tenant.InputError{Msg: cmd.CommandPath() + " needs what to change", Hint: fmt.Sprintf("%s %s --mem 2048, say; see %[1]s --help", cmd.CommandPath(), args[0])}
	}
	return nil
}
