package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

// confirmOn confirms what destroys something of a tenant, which must be there.
func (a *app) confirmOn(ctx context.Context, h *lifecycle.Host, id, what string, yes bool) error {
	if err := h.MustExist(id); err != nil {
		return err
	}
	return a.confirm(ctx, what, yes)
}

// confirmLoss confirms what destroys something, if that is there: what is not is
// no question.
func (a *app) confirmLoss(ctx context.Context, there bool, what string, yes bool) error {
	if !there {
		return nil
	}
	return a.confirm(ctx, what, yes)
}

// confirm asks on a terminal; elsewhere what destroys needs --yes.
func (a *app) confirm(ctx context.Context, what string, yes bool) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(a.In.Fd())) {
		return &tenant.InputError{Msg: "nobody is there to ask: " + what + "?", Hint: "say --yes"}
	}
	fmt.Fprintf(a.Err, "%s? [y/N] ", what)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	switch word := strings.ToLower(strings.TrimSpace(answer)); {
	case ctx.Err() != nil:
		fmt.Fprintln(a.Err)
		return ctx.Err()
	case err != nil, word != "y" && word != "yes": // the end of the input says no
		return &tenant.InputError{Msg: "not confirmed, nothing was done"}
	}
	return nil
}

// yesFlag adds --yes, which everything has that destroys.
func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}
