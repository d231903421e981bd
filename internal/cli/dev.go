package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/devvm"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// onDev is the body of a verb that works on the dev microVM, if it was ever
// made.
func (a *app) onDev(do func(ctx context.Context, vm *devvm.VM, args []string) error) func(*cobra.Command, []string) error {
	return a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
		vm, err := devvm.Existing(h, a.note)
		if err != nil {
			return err
		}
		return do(ctx, vm, args)
	})
}

// onDevTenant is onTenant for a verb that the dev microVM has, too. It must be
// there.
func (a *app) onDevTenant(what string, do func(ctx context.Context, h *lifecycle.Host, args []string) error) func(*cobra.Command, []string) error {
	return a.onDev(func(ctx context.Context, vm *devvm.VM, _ []string) error {
		h, err := vm.Host()
		if err == nil {
			err = do(ctx, h, []string{devvm.ID})
		}
		if err != nil {
			return fmt.Errorf("cannot %s the dev microVM: %w", what, err)
		}
		return nil
	})
}

// devFlags are what dev and start say about the microVM.
func devFlags(cmd *cobra.Command, w *devvm.Wish, volumes *[]string) {
	f := cmd.Flags()
	f.StringVar(&w.Flake, "flake", "", "where the guest is defined (default: the flake in the working directory)")
	f.StringVar(&w.Profile, "profile", "", "which guest of the flake (default: baseline)")
	f.IntVar(&w.VCPUs, "cpus", 0, "virtual CPUs (default: 1)")
	f.IntVar(&w.MemMiB, "mem", 0, "memory in MiB (default: 512)")
	volumeFlag(cmd, volumes)
}

func (a *app) devCommand() *cobra.Command {
	var (
		wish    devvm.Wish
		volumes []string
	)
	cmd := &cobra.Command{
		Use:   "dev [-- command…]",
		Short: "Bring the dev microVM up from whatever state it is in, and open a shell in it",
		Long: `Bring the dev microVM up from whatever state it is in, and open a shell in it.

It is made, built, started or, where it is stuck, started anew. If it runs and
answers, only the shell is opened. A host that was never set up is bootstrapped
and set up first; only the software tier has to be asked for.

The dev microVM is no tenant. Its network is its own, ` + devvm.Subnet + `, and
neither reaches the other.`,
		Example: "  mvm dev\n  mvm dev --flake ./nix --profile python\n  mvm dev -- uname -a",
		Args:    onlyAfterDash,
		RunE: func(cmd *cobra.Command, args []string) error {
			vm, err := a.startDev(cmd.Context(), wish, volumes)
			if err != nil {
				return err
			}
			if len(args) == 0 && !term.IsTerminal(int(a.In.Fd())) {
				return nil
			}
			return a.devShell(cmd.Context(), vm, args)
		},
	}
	devFlags(cmd, &wish, &volumes)
	return cmd
}

func (a *app) startCommand() *cobra.Command {
	var (
		wish    devvm.Wish
		volumes []string
	)
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start the dev microVM, building it when needed, and open a shell on a terminal",
		Long: `Start the dev microVM, building it when needed, and open a shell on a terminal.

A host that was never set up is bootstrapped and set up first; only the software
tier has to be asked for.`,
		Example: `  mvm start --profile minimal --cpus 2 --mem 1024
  mvm start -v 20G:/work -v ./src:/src`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			vm, err := a.startDev(cmd.Context(), wish, volumes)
			if err != nil || !term.IsTerminal(int(a.In.Fd())) {
				return err
			}
			return a.devShell(cmd.Context(), vm, nil)
		},
	}
	devFlags(cmd, &wish, &volumes)
	return cmd
}

func (a *app) startDev(ctx context.Context, wish devvm.Wish, volumes []string) (*devvm.VM, error) {
	var err error
	if wish.Volumes, err = parseVolumes(volumes); err != nil {
		return nil, err
	}
	h, err := a.preparedHost(ctx)
	if err != nil {
		return nil, err
	}
	vm, err := devvm.Open(h, a.note)
	if err != nil {
		return nil, err
	}
	if wish.Dir, err = os.Getwd(); err != nil {
		return nil, err
	}
	progress, stop := a.followBuild("building the dev microVM")
	done, err := vm.Start(ctx, wish, devvm.Events{Build: progress, Run: func(p supervisor.Progress) {
		stop() // the guest is built
		showStep(a.note, p)
	}})
	stop()
	if err != nil {
		return nil, fmt.Errorf("cannot start the dev microVM: %w", err)
	}
	switch {
	case done.Already:
		a.note("the dev microVM runs already: %s", done.State.Net.IP)
	default:
		a.note("the dev microVM runs: %s, %s tier, answers on SSH after %s", done.State.Net.IP, done.State.Tier, seconds(done.Ready))
	}
	return vm, nil
}

func (a *app) devSSH() *cobra.Command {
	return &cobra.Command{
		Use:     "ssh [-- command…]",
		Short:   "Open a shell in the dev microVM, or run a command and hand on its exit code",
		Example: "  mvm ssh\n  mvm ssh -- uname -a",
		Args:    onlyAfterDash,
		RunE: a.onDev(func(ctx context.Context, vm *devvm.VM, args []string) error {
			return a.devShell(ctx, vm, args)
		}),
	}
}

// onlyAfterDash takes a command for the guest and nothing else.
func onlyAfterDash(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
		return &tenant.InputError{Msg: fmt.Sprintf("%s takes a command after --, and no other words", cmd.CommandPath()), Hint: cmd.CommandPath() + " -- " + args[0]}
	}
	return nil
}

func (a *app) devShell(ctx context.Context, vm *devvm.VM, argv []string) error {
	target, err := vm.Target()
	if err != nil {
		return fmt.Errorf("cannot reach the dev microVM: %w", err)
	}
	tty := len(argv) == 0 && term.IsTerminal(int(a.In.Fd()))
	if err := a.inGuest(ctx, target, argv, tty); err != nil {
		return fmt.Errorf("cannot reach the dev microVM: %w", err)
	}
	return nil
}

func (a *app) devStop() *cobra.Command {
	return &cobra.Command{
		Use:     "stop",
		Short:   "Stop the dev microVM",
		Example: "  mvm stop",
		Args:    exactArgs(0, "no arguments; mvm tenant stop stops a tenant"),
		RunE: a.onDev(func(ctx context.Context, vm *devvm.VM, _ []string) error {
			already, err := vm.Stop(ctx)
			if err != nil {
				return fmt.Errorf("cannot stop the dev microVM: %w", err)
			}
			if already {
				a.result("the dev microVM does not run")
			} else {
				a.result("the dev microVM is stopped")
			}
			return nil
		}),
	}
}

func (a *app) devDestroy() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "destroy",
		Short:   "Remove the dev microVM with its data",
		Example: "  mvm destroy --yes",
		Args:    exactArgs(0, "no arguments; mvm tenant destroy destroys a tenant"),
		RunE: a.onDev(func(ctx context.Context, vm *devvm.VM, _ []string) error {
			there, err := vm.Remains()
			if err != nil {
				return fmt.Errorf("cannot destroy the dev microVM: %w", err)
			}
			if err := a.confirmLoss(ctx, there, "Destroy the dev microVM with its data", yes); err != nil {
				return err
			}
			already, err := vm.Destroy(ctx)
			if err != nil {
				return fmt.Errorf("cannot destroy the dev microVM: %w", err)
			}
			if already {
				a.result("there is no dev microVM")
			} else {
				a.result("the dev microVM is destroyed")
			}
			return nil
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}
