package cli

import (
	"context"
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
			if err := a.installMissing(cmd.Context()); err != nil {
				return err
			}
			h, err := a.host()
			if err != nil {
				return err
			}
			_, err = a.setUp(cmd.Context(), h, opts, a.result)
			return err
		},
	}
	tierFlag(cmd, &opts.Tier)
	return cmd
}

// installMissing installs the programs that this host lacks.
func (a *app) installMissing(ctx context.Context) error {
	err := bootstrap.Install(ctx, bootstrap.This(runtime.GOARCH), a.note, a.Err)
	var none *bootstrap.NoManagerError
	switch {
	case errors.As(err, &none):
		return &lifecycle.Error{Kind: lifecycle.ErrHost, Msg: "cannot bootstrap: " + err.Error(), Hint: "install them by hand, then run mvm setup"}
	case err != nil:
		return fmt.Errorf("cannot bootstrap: %w", err)
	}
	return nil
}

// preparedHost opens the host. One that was never set up is bootstrapped and
// set up first, as far as that takes no decision: the software tier is a
// person's own choice.
func (a *app) preparedHost(ctx context.Context) (*lifecycle.Host, error) {
	h, err := a.host()
	if err != nil || h.Config.Tier != "" {
		return h, err
	}
	a.note("this host is not set up yet: doing what mvm bootstrap does")
	if err := a.installMissing(ctx); err != nil {
		return nil, err
	}
	_, err = a.setUp(ctx, h, lifecycle.SetupOptions{}, a.note)
	return h, err
}
