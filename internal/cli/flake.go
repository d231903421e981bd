package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/flakecheck"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) flakeCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "flake", Short: "Look at flakes that define guests", Example: "  mvm flake check ./nix/debian --offline"})
	cmd.AddCommand(a.flakeCheck())
	return cmd
}

func (a *app) flakeCheck() *cobra.Command {
	var opts lifecycle.BuildOptions
	var inputs []string
	cmd := &cobra.Command{
		Use:   "check <flake>",
		Short: "List the guests that a flake offers, and what is missing from them",
		Long: `List the guests that a flake offers, and what is missing from them.

The flake is evaluated in a throw-away container, as for a build; nothing is
built. A guest is a tenant's own or a profile's; the outputs that each needs are
in docs/flake-contract.md. The command fails where a guest is incomplete or
there is none.

With --override-input an input is taken from a folder of this host, for a flake
whose inputs can't be reached, or to see what another nixpkgs makes of it.`,
		Example: `  mvm flake check ./nix/debian --offline
  mvm flake check ./nix --offline --override-input nixpkgs=/src/nixpkgs
  mvm flake check github:example/guests --json`,
		Args: exactArgs(1, "one flake"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			progress, stop := a.followBuild("checking " + args[0])
			opts.Progress = progress
			report, err := h.CheckFlake(ctx, args[0], dir, inputs, opts)
			stop()
			if err != nil {
				return err
			}
			if err := output(a, report, a.printFlake); err != nil || report.OK() {
				return err
			}
			return &tenant.InputError{Msg: fmt.Sprintf("flake %s does not keep the contract", args[0]), Hint: "see docs/flake-contract.md"}
		}),
	}
	cmd.Flags().BoolVar(&opts.Offline, "offline", false, "evaluate without network")
	cmd.Flags().StringArrayVar(&inputs, "override-input", nil, "take an input of the flake from a folder: `input=folder` (may be given several times)")
	engineFlag(cmd, &opts.Engine)
	a.jsonFlag(cmd, flakecheck.Report{})
	return cmd
}

func (a *app) printFlake(r flakecheck.Report) error {
	t := &table{head: []string{"GUEST", "SYSTEM", "INITRD", "STATE"}}
	problems := r.Strays
	for _, g := range r.Guests {
		name, initrd, state := g.Name, "no", "complete"
		if name == "" {
			name = "(default)"
		}
		if g.Initrd {
			initrd = "yes"
		}
		if !g.Complete() {
			state = "incomplete"
		}
		problems = append(problems, g.Problems...)
		t.row(name, g.System, initrd, state)
	}
	if len(r.Guests) == 0 {
		a.result("no guests")
	} else if err := a.printTable(t); err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintf(a.plain(), "%s %s\n", p.Output, p.Why)
	}
	for _, system := range r.Other {
		fmt.Fprintf(a.plain(), "packages.%s has guests that no host can run\n", system)
	}
	return nil
}
