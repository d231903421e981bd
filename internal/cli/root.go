// Package cli is the command line: flags, wiring, text, hints and exit codes,
// one file per verb.
//
// It holds no domain logic: a verb turns flags into options, makes one call
// and prints what comes back.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/store"
)

// Streams is where a command reads from and writes to.
type Streams struct {
	In  *os.File
	Out io.Writer
	Err io.Writer
}

// app is what every verb has at hand.
type app struct {
	Streams
	root  string
	json  bool
	quiet bool
}

// Run executes one command line and returns its exit code.
func Run(ctx context.Context, args []string, streams Streams) int {
	a := &app{Streams: streams}
	cmd := a.rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.Err)
	err := cmd.ExecuteContext(ctx)
	return a.report(ctx, err)
}

func (a *app) rootCommand() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "mvm",
		Short: "Build tenants' guests from Nix flakes and run each in its own microVM",
		Long: `mvm builds each tenant's guest from a Nix flake inside a throw-away container
and runs it in its own Firecracker microVM, with its own CPU and memory share,
TAP device, disks, secrets, logs and metrics.

Exit codes:
  0    done, or already so
  1    failed
  2    wrong usage or bad input
  3    no such tenant
  4    busy, or in the wrong state
  5    this host cannot do that
  130  interrupted
ssh and exec hand on the code of the remote command.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	})
	defaultRoot := os.Getenv("MVM_ROOT")
	if defaultRoot == "" {
		defaultRoot = store.DefaultRoot
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.root, "root", defaultRoot, "state directory (MVM_ROOT)")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{msg: err.Error(), hint: fmt.Sprintf("see %s --help", cmd.CommandPath())}
	})
	root.AddCommand(a.commands()...)
	return root
}

// exactArgs is cobra.ExactArgs with an error in our words.
func exactArgs(n int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return &usageError{
			msg:  fmt.Sprintf("%s takes %s, got %d", cmd.CommandPath(), usage, len(args)),
			hint: fmt.Sprintf("see %s --help", cmd.CommandPath()),
		}
	}
}

// group is a command that only holds others. Without a verb it prints its
// help; with one that does not exist it says so, with near misses.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.SuggestionsMinimumDistance = 2
	return cmd
}

func unknownCommand(cmd *cobra.Command, word string) error {
	hint := fmt.Sprintf("see %s --help", cmd.CommandPath())
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %s %s?", cmd.CommandPath(), near[0])
	}
	return &usageError{msg: fmt.Sprintf("%s has no command %q", cmd.CommandPath(), word), hint: hint}
}

// note prints what a person may want to know but no script needs.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.Err, format+"\n", args...)
	}
}
