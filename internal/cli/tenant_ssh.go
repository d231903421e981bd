package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/ssh"
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
				return &usageError{msg: "mvm tenant ssh takes one tenant id and, after --, a command", hint: "mvm tenant ssh acme -- uname -a"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			target, err := h.Target(args[0])
			if err != nil {
				return fmt.Errorf("cannot reach tenant %s: %w", args[0], err)
			}
			tty := len(args) == 1 && term.IsTerminal(int(a.In.Fd()))
			code, err := ssh.Run(cmd.Context(), target, ssh.Options{TTY: tty}, args[1:], ssh.Stdio{In: a.In, Out: a.Out, Err: a.Err})
			if err != nil {
				return fmt.Errorf("cannot reach tenant %s: %w", args[0], err)
			}
			if code != 0 {
				return &remoteExit{code}
			}
			return nil
		},
	}
}
