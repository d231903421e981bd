package cli

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantSSH() *cobra.Command {
	return &cobra.Command{
		Use: "ssh <id> [-- command…]",
		Example: `  mvm tenant ssh acme
  mvm tenant ssh acme -- uname -a`,
		Short: "Open a shell in the guest, or run a command and hand on its exit code",
		Long: `Open a shell in the guest, or run a command and hand on its exit code.

The words after -- reach the guest's shell exactly as they are: to use its
pipes and variables, say: mvm tenant ssh acme -- sh -c 'ls /data | wc -l'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); len(args) == 0 || n == 0 || n > 1 || n == -1 && len(args) > 1 {
				return &tenant.InputError{Msg: "mvm tenant ssh takes one tenant id and, after --, a command", Hint: "mvm tenant ssh acme -- uname -a"}
			}
			return nil
		},
		RunE: a.onTenant("reach", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			tty := len(args) == 1 && term.IsTerminal(int(a.In.Fd()))
			return a.inTenant(ctx, h, args[0], args[1:], tty)
		}),
	}
}

func (a *app) tenantExec() *cobra.Command {
	var tty bool
	cmd := &cobra.Command{
		Use:   "exec <id> -- <command>…",
		Short: "Run a command in the guest and hand on its exit code",
		Long: `Run a command in the guest and hand on its exit code.

The words after -- reach the command exactly as they are. Standard input goes
to it, too: in a loop that reads its own, give it < /dev/null. A command that a
signal ends is told by code 255.`,
		Example: `  mvm tenant exec acme -- uname -a
  mvm tenant exec acme -- sh -c 'cat > /data/in' < in
  mvm tenant exec acme --tty -- top`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
				return &tenant.InputError{Msg: "mvm tenant exec takes one tenant id and, after --, a command", Hint: "mvm tenant exec acme -- uname -a"}
			}
			return nil
		},
		RunE: a.onTenant("reach", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			return a.inTenant(ctx, h, args[0], args[1:], tty)
		}),
	}
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	return cmd
}

// inTenant runs a command in a tenant's guest, see inGuest.
func (a *app) inTenant(ctx context.Context, h *lifecycle.Host, id string, argv []string, tty bool) error {
	target, err := h.Target(id)
	if err != nil {
		return err
	}
	return a.inGuest(ctx, target, argv, tty)
}

// inGuest runs a command, or a shell where there is none, and hands on its
// exit code.
func (a *app) inGuest(ctx context.Context, target ssh.Target, argv []string, tty bool) error {
	code, err := ssh.Run(ctx, target, ssh.Options{TTY: tty}, argv, ssh.Stdio{In: a.In, Out: a.Out, Err: a.Err})
	if err != nil {
		return err
	}
	if code != 0 {
		return &fault.Exit{Code: code}
	}
	return nil
}
