package cli

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/bootstrap"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) bootstrapCommand() *cobra.Command {
	var opts lifecycle.SetupOptions
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Install the programs that this host lacks, then set it up",
		Long: `Install the programs that this host lacks, then set it up.

Packages come from the host's own apt, dnf or pacman. What is there already is
left alone. Interrupted, it goes on when run again.`,
		Example: "  mvm bootstrap\n  mvm bootstrap --tier software",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var none *bootstrap.NoManagerError
			err := bootstrap.Install(cmd.Context(), bootstrap.This(runtime.GOARCH), a.note, a.Err)
			switch {
			case errors.As(err, &none):
				return &lifecycle.Error{Kind: lifecycle.ErrHost, Msg: "cannot bootstrap: " + err.Error(), Hint: "install them by hand, then run mvm setup"}
			case err != nil:
				return fmt.Errorf("cannot bootstrap: %w", err)
			}
			h, err := a.host()
			if err != nil {
				return err
			}
			done, err := h.Setup(cmd.Context(), opts)
			if err != nil {
				return fmt.Errorf("cannot set up this host: %w", err)
			}
			fmt.Fprintf(a.Out, "tier %s (%s): %s\n", done.Tier, done.VMM, done.Reason)
			return nil
		},
	}
	cmd.Flags().StringVar(&opts.Tier, "tier", "", "kvm or software (default: kvm, which must be possible)")
	return cmd
}
