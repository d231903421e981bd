// Package limacli is the command line of a host whose tenants run in a Lima
// VM: a Mac, or a Linux host that asks for it. A few verbs are about this host
// and done here; every other command line is run again inside the VM.
//
// It links nothing of the Linux side, so that the program for macOS holds none
// of it.
package limacli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/lima"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/userfile"
)

type app struct {
	in, out, err *os.File
	env          []string
	vm           *lima.VM
	quiet        bool
}

// Wanted says whether a command line is to be run in the Lima VM on a Linux
// host: with --lima before any --, or MVM_LIMA=1. It returns the command line
// without that word.
func Wanted(args []string, getenv func(string) string) ([]string, bool) {
	end := len(args)
	if i := slices.Index(args, "--"); i >= 0 {
		end = i
	}
	if i := slices.Index(args[:end], "--lima"); i >= 0 {
		return slices.Delete(slices.Clone(args), i, i+1), true
	}
	switch getenv("MVM_LIMA") {
	case "", "0", "false", "no":
		return args, false
	}
	return args, true
}

// Run executes one command line and returns its exit code.
func Run(ctx context.Context, args []string, in, out, errOut *os.File) int {
	a := &app{in: in, out: out, err: errOut, env: os.Environ()}
	err := a.open()
	if err == nil {
		err = a.run(ctx, args)
	}
	return a.report(ctx, err)
}

// Command is the tree of commands that are about this host and its Lima VM, for
// those who check what is written about them.
func Command() *cobra.Command { return new(app).rootCommand() }

func (a *app) open() error {
	config, err := os.UserConfigDir()
	if err != nil {
		return fmt.Errorf("cannot find a place for mvm's own files: %w", err)
	}
	a.vm = &lima.VM{
		Name: or(os.Getenv("MVM_LIMA_VM"), lima.DefaultName), Limactl: or(os.Getenv("MVM_LIMACTL"), "limactl"),
		Dir: filepath.Join(config, "mvm", "lima"), Say: a.note,
		LinuxBinary: lima.BesideSelf(runtime.GOOS, runtime.GOARCH),
	}
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (a *app) run(ctx context.Context, args []string) error {
	a.quiet = quiet(args)
	switch word, rest := verb(args); {
	case asksHelp(rest):
	case word == "status":
		return a.status(ctx, args)
	case word == "doctor":
		if err := a.vm.CheckRunning(ctx); err != nil { // who looks for what is wrong starts nothing
			return a.finding(args, err)
		}
	case word == "stop":
		inst, err := a.vm.Look(ctx)
		if err == nil && inst.Status == lima.StatusStopped {
			fmt.Fprintf(a.out, "the dev microVM does not run, for the Lima VM %s is stopped\n", a.vm.Name)
		}
		if err != nil || inst.Status == lima.StatusStopped {
			return err
		}
	case word == "dev" || word == "start":
		if err := a.prepare(ctx); err != nil {
			return err
		}
	}
	if c, ok := findCopy(args); ok {
		return a.copy(ctx, c)
	}
	if !local(args) {
		return a.proxy(ctx, args)
	}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return root.ExecuteContext(ctx)
}

// verb is the first word that is neither a flag nor a flag's value.
func verb(args []string) (word string, rest []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--root":
			i++
		case args[i] == "--":
			return "", nil
		case !strings.HasPrefix(args[i], "-"):
			return args[i], args[i+1:]
		}
	}
	return "", nil
}

// localVerbs are about this host.
var localVerbs = []string{"bootstrap", "setup", "sync", "lima", "upgrade", "version", "completion"}

func local(args []string) bool {
	word, rest := verb(args)
	if word == "help" {
		word, _ = verb(rest)
	}
	return word == "" || slices.Contains(localVerbs, word)
}

func asksHelp(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "-h") || slices.Contains(args, "--help")
}

func quiet(args []string) bool {
	for _, word := range args {
		switch word {
		case "--":
			return false
		case "-q", "--quiet", "__complete", "__completeNoDesc":
			return true
		}
	}
	return false
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mvm",
		Short: "Build tenants' guests from Nix flakes and run each in its own microVM, inside a Lima VM",
		Long: `mvm builds each tenant's guest from a Nix flake inside a throw-away container
and runs it in its own Firecracker microVM. On this host it does so inside a
Lima VM, where its state is, too.

The commands below are about this host and that VM. Every other one, such as
tenant, dev, audit or reconcile, runs inside, as if it ran here: mvm help
tenant. mvm status says how the VM is and then what it says inside, and starts
none. Local flakes are copied in first, to the same path.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &tenant.InputError{Msg: err.Error(), Hint: fmt.Sprintf("see %s --help", cmd.CommandPath())}
	})
	root.AddCommand(a.bootstrapCommand(), a.setupCommand(), a.syncCommand(), a.limaCommand(), a.upgradeCommand(), a.versionCommand())
	return root
}

// proxy runs the command line inside.
func (a *app) proxy(ctx context.Context, args []string) error { return a.proxyTo(ctx, args, a.out) }

// proxyTo runs the command line inside, with another standard output.
func (a *app) proxyTo(ctx context.Context, args []string, out *os.File) error {
	if word, _ := verb(args); strings.HasPrefix(word, "__complete") {
		// The Tab key starts no machine.
		if inst, err := a.vm.Look(ctx); err != nil || inst.Status != lima.StatusRunning {
			return &fault.Exit{Code: 1}
		}
	}
	if err := a.vm.Ensure(ctx); err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("cannot tell the working directory: %w", err)
	}
	in, env := lima.FindInputs(args, dir), lima.Env(a.env)
	release, err := a.vm.HoldCopies(ctx, in, env)
	if err != nil {
		return err
	}
	defer release()
	stdin, err := a.input(ctx, in, dir)
	if err != nil {
		return err
	}
	if stdin != a.in {
		defer stdin.Close()
	}
	if err := a.vm.Bring(ctx, &in, dir, env); err != nil {
		return err
	}
	if in.Undecided {
		if err := a.setupAside(ctx); err != nil {
			return err
		}
	}
	c := lima.Command{Args: in.Args, Env: env, Dir: dir, In: stdin, Out: out, Err: a.err}
	if in.Stdout != "" {
		file, err := userfile.Replaceable(in.Stdout)
		if err != nil {
			return err
		}
		return atomicfile.Replace(file, 0o600, func(w io.Writer) error {
			c.Out = w
			return a.runInside(ctx, c)
		})
	}
	if in.Trace != "" {
		return a.runTraced(ctx, c, in)
	}
	if err := a.runInside(ctx, c); err != nil || !in.Frees {
		return err
	}
	err = a.vm.RemoveCopies(ctx, in.DryRun)
	if word, _ := verb(args); err != nil && word != "gc" {
		a.note("copies in the Lima VM stay until mvm gc: %v", err) // what was asked for is done
		return nil
	}
	return err
}

func (a *app) runInside(ctx context.Context, c lima.Command) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, lima.ForwardedSignals()...)
	defer signal.Stop(signals)
	c.Signals = signals
	code, err := a.vm.Run(ctx, c)
	if err != nil {
		return err
	}
	if code != 0 {
		return &fault.Exit{Code: code}
	}
	return nil
}

// report prints err and its hint and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	var remote *fault.Exit
	if errors.As(err, &remote) {
		return remote.Code
	}
	code, hint := fault.Code(err), fault.Hint(err)
	if ctx.Err() != nil || run.Interrupted(err) {
		code, hint = fault.Interrupted, "nothing is lost: the same command goes on from here"
	}
	fmt.Fprintf(a.err, "mvm: %v\n", err)
	if hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", hint)
	}
	return code
}

// note prints what a person may want to know but no script needs.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}
