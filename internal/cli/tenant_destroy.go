package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantDestroy() *cobra.Command {
	var (
		opts lifecycle.DestroyOptions
		yes  bool
	)
	cmd := &cobra.Command{
		Use:   "destroy <id>",
		Short: "Stop a tenant and remove it; its data volume is kept aside unless told otherwise",
		Example: `  mvm tenant destroy acme
  mvm tenant destroy acme --wipe-volumes --yes`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("destroy", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			what := fmt.Sprintf("Destroy tenant %s", args[0])
			if opts.WipeVolumes {
				what += " and wipe its data volume"
			}
			there, err := h.Remains(args[0])
			if err != nil {
				return err
			}
			if there {
				if err := a.confirm(ctx, what, yes); err != nil {
					return err
				}
			}
			done, err := h.Destroy(ctx, args[0], opts)
			if err != nil {
				return err
			}
			switch {
			case done.Already:
				fmt.Fprintf(a.Out, "tenant %s was destroyed already\n", args[0])
			case done.Retained != "":
				fmt.Fprintf(a.Out, "tenant %s destroyed; its data volume is kept as %s\n", args[0], done.Retained)
			default:
				fmt.Fprintf(a.Out, "tenant %s destroyed\n", args[0])
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&opts.WipeVolumes, "wipe-volumes", false, "remove the data volume, too")
	yesFlag(cmd, &yes)
	waitFlag(cmd)
	return cmd
}

// confirmOn confirms what destroys something of a tenant, which must be there.
func (a *app) confirmOn(ctx context.Context, h *lifecycle.Host, id, what string, yes bool) error {
	if err := h.MustExist(id); err != nil {
		return err
	}
	return a.confirm(ctx, what, yes)
}

// confirm asks on a terminal; elsewhere what destroys needs --yes.
func (a *app) confirm(ctx context.Context, what string, yes bool) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(a.In.Fd())) {
		return &usageError{msg: "nobody is there to ask: " + what + "?", hint: "say --yes"}
	}
	fmt.Fprintf(a.Err, "%s? [y/N] ", what)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	switch word := strings.ToLower(strings.TrimSpace(answer)); {
	case ctx.Err() != nil:
		fmt.Fprintln(a.Err)
		return ctx.Err()
	case err != nil, word != "y" && word != "yes": // the end of the input says no
		return &usageError{msg: "not confirmed, nothing was done"}
	}
	return nil
}
