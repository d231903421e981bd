package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) setupCommand() *cobra.Command {
	var opts lifecycle.SetupOptions
	var noJail bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Check this host and decide the tier that tenants run on",
		Long: `Check this host and decide the tier that tenants run on.

kvm runs guests with Firecracker on hardware virtualisation: the isolation
boundary that mvm is made for. software runs them with QEMU's emulation where a
host has no usable KVM; it has to be asked for.

Where systemd runs the host, setup for the default state directory also
installs and enables mvm-reconcile.service, which brings the tenants back after
a reboot and stops their guests when the host shuts down.`,
		Example: `  mvm setup
  mvm setup --firecracker 1.17.0
  mvm setup --firecracker ./firecracker-v1.17.0-x86_64.tgz
  mvm setup --tier software`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("no-jail") {
				opts.NoJail = &noJail
			}
			done, err := a.setUp(cmd.Context(), h, opts, a.result)
			if err == nil && done.Already && done.Unit == "" {
				a.note("nothing to do: it was decided so before")
			}
			return err
		},
	}
	tierFlag(cmd, &opts.Tier)
	f := cmd.Flags()
	f.StringVar(&opts.Firecracker, "firecracker", "", "install Firecracker and its jailer first: a version that mvm has checksums of, a release's archive, or a folder")
	f.StringVar(&opts.SHA256, "firecracker-sha256", "", "accept an archive that mvm has no checksum of, if this is its checksum")
	f.BoolVar(&opts.Unverified, "firecracker-unverified", false, "accept the programs of a folder, which nothing vouches for")
	f.BoolVar(&noJail, "no-jail", false, "run Firecracker without its jailer; kept as vmm.no_jailer")
	return cmd
}

// tierFlag adds --tier.
func tierFlag(cmd *cobra.Command, tier *string) {
	cmd.Flags().StringVar(tier, "tier", "", "kvm or software (default: kvm, which must be possible)")
}

// setUp sets the host up and tells how.
func (a *app) setUp(ctx context.Context, h *lifecycle.Host, opts lifecycle.SetupOptions, tell func(format string, args ...any)) (lifecycle.SetupDone, error) {
	done, err := h.Setup(ctx, opts)
	if err != nil {
		return done, fmt.Errorf("cannot set up this host: %w", err)
	}
	tell("tier %s (%s): %s", done.Tier, done.VMM, done.Reason)
	if done.Unit != "" {
		a.note("systemd runs %s at every boot", done.Unit)
	}
	return done, nil
}
