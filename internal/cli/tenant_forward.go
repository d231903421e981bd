package cli

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantPortForward() *cobra.Command {
	return &cobra.Command{
		Use:   "port-forward <id> [<address>:]<host port>:<guest port>…",
		Short: "Make ports of a guest reachable on this host, over SSH, until interrupted",
		Long: `Make ports of a guest reachable on this host, over SSH, until interrupted.

Without an address only this host itself can connect. The guest sees the
connections come from itself, so services that listen on its loopback work.`,
		Example: `  mvm tenant port-forward acme 8080:80
  mvm tenant port-forward acme 8080:80 0.0.0.0:5432:5432`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return &tenant.InputError{Msg: cmd.CommandPath() + " takes a tenant id and ports", Hint: "mvm tenant port-forward acme 8080:80"}
			}
			return nil
		},
		RunE: a.onTenant("forward to", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			extra := []string{"-N", "-o", "ExitOnForwardFailure=yes"}
			for _, arg := range args[1:] {
				f, err := parseForward(arg)
				if err != nil {
					return err
				}
				extra = append(extra, "-L", f)
			}
			target, err := h.Target(args[0])
			if err != nil {
				return err
			}
			for _, arg := range args[1:] {
				a.note("forwarding %s to tenant %s; Ctrl-C ends it", arg, args[0])
			}
			code, err := ssh.Run(ctx, target, ssh.Options{Extra: extra}, nil, ssh.Stdio{Out: a.Out, Err: a.Err})
			switch {
			case ctx.Err() != nil:
				return nil // it was ended, as it is meant to be
			case err != nil:
				return err
			}
			return &lifecycle.Error{Kind: lifecycle.ErrState, Msg: fmt.Sprintf("the connection has ended (%d)", code), Hint: "mvm tenant show " + args[0]}
		}),
	}
}

// parseForward makes ssh's -L of [address:]port:port.
func parseForward(arg string) (string, error) {
	bad := &tenant.InputError{Msg: fmt.Sprintf("%q names no ports", arg), Hint: "write <host port>:<guest port>, such as 8080:80"}
	words := strings.Split(arg, ":")
	addr := "127.0.0.1"
	if len(words) == 3 {
		ip := net.ParseIP(words[0])
		if ip == nil || ip.To4() == nil {
			return "", bad
		}
		addr, words = words[0], words[1:]
	}
	if len(words) != 2 {
		return "", bad
	}
	for _, w := range words {
		if n, err := strconv.ParseUint(w, 10, 16); err != nil || n == 0 {
			return "", bad
		}
	}
	return addr + ":" + words[0] + ":127.0.0.1:" + words[1], nil
}

func (a *app) tenantSSHConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "ssh-config <id>…",
		Short: "Print the lines for ~/.ssh/config with which ssh and editors reach guests",
		Example: `  mvm tenant ssh-config acme >> ~/.ssh/config && ssh acme
  ssh -F <(mvm tenant ssh-config acme web) web`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &tenant.InputError{Msg: cmd.CommandPath() + " takes tenant ids", Hint: "mvm tenant ssh-config acme"}
			}
			return nil
		},
		RunE: a.onHost(func(_ context.Context, h *lifecycle.Host, args []string) error {
			for _, id := range args {
				target, err := h.Place(id)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.Out, ssh.Config(target))
			}
			return nil
		}),
	}
}
