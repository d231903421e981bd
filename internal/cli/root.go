// Package cli is the command line: flags, wiring, text, hints and exit codes,
// one file per verb.
//
// It holds no domain logic: a verb turns flags into options, makes one call
// and prints what comes back. tenant_run.go is mvm tenant run; what has no
// group's prefix is a verb of mvm itself, or shared by verbs: host.go opens what
// they work on, usage.go refuses a command line, report.go knows the exit codes.
package cli

import (
	"context"
	"io"
	"os"
	"reflect"
	"sync/atomic"

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
	in      *stream  // In, for what is read from it until its end
	args    []string // the command line, for near misses
	root    string
	json    bool
	quiet   bool
	verbose bool
	noColor bool
	several bool                            // tenants are worked on side by side
	outputs map[*cobra.Command]reflect.Type // what each prints with --json

	live atomic.Pointer[liveBuild] // what is on the terminal's last lines now, if anything
}

// Run executes one command line and returns its exit code.
func Run(ctx context.Context, args []string, streams Streams) int {
	a := &app{Streams: streams, args: args, in: &stream{ctx: ctx, in: streams.In}}
	cmd := a.rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.Err)
	err := cmd.ExecuteContext(ctx)
	return a.report(ctx, err)
}

// Command is the whole tree of commands, for those who document it.
func Command() *cobra.Command {
	a := &app{Streams: Streams{In: os.Stdin, Out: io.Discard, Err: io.Discard}}
	return a.rootCommand()
}

// Outputs are the types of what commands print with --json, by the commands'
// names.
func Outputs() map[string]reflect.Type {
	a := &app{Streams: Streams{In: os.Stdin, Out: io.Discard, Err: io.Discard}}
	a.rootCommand() // gives every command its parent, and so its name
	types := map[string]reflect.Type{}
	for cmd, t := range a.outputs {
		types[cmd.CommandPath()] = t
	}
	return types
}

// exitCodes are those of package fault, for the help.
const exitCodes = `Exit codes:
  0    done, or already so
  1    failed
  2    wrong usage or bad input
  3    no such tenant
  4    busy, or in the wrong state
  5    this host cannot do that
  130  interrupted`

func (a *app) rootCommand() *cobra.Command {
	var version bool
	root := group(&cobra.Command{
		Use:   "mvm",
		Short: "Build tenants' guests from Nix flakes and run each in its own microVM",
		Example: `  mvm setup
  mvm tenant create acme --flake ./nix/debian --profile minimal
  mvm tenant build acme
  mvm tenant run acme`,
		Long: `mvm builds each tenant's guest from a Nix flake inside a throw-away container
and runs it in its own Firecracker microVM, with its own CPU and memory share,
TAP device, disks, secrets, logs and metrics.

` + exitCodes + `
ssh and exec hand on the code of the remote command.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	})
	help := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if version {
			return a.printVersion()
		}
		return help(cmd, args)
	}
	root.Flags().BoolVar(&version, "version", false, "print the version")
	defaultRoot := os.Getenv("MVM_ROOT")
	if defaultRoot == "" {
		defaultRoot = store.DefaultRoot
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.root, "root", defaultRoot, "state directory (MVM_ROOT)")
	flags.Lookup("root").DefValue = store.DefaultRoot // the help is the same everywhere
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	flags.BoolVar(&a.verbose, "verbose", false, "say more of what is being done")
	flags.BoolVar(&a.noColor, "no-color", false, "print no colours (NO_COLOR)")
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = checkValues
	root.CompletionOptions.DisableDefaultCmd = true   // completion.go has its own
	root.SetHelpCommand(&cobra.Command{Hidden: true}) // help.go has our own
	root.AddCommand(a.commands()...)
	a.teach(root)
	return root
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
	cmd.Annotations = map[string]string{GroupAnnotation: "yes"}
	return cmd
}

// GroupAnnotation marks commands that do nothing without a verb.
const GroupAnnotation = "group"

// commands lists the verbs as they appear in the help.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.bootstrapCommand(),
		a.setupCommand(),
		a.devCommand(),
		a.startCommand(),
		a.devStop(),
		a.devSSH(),
		a.devLogs(),
		a.devConsole(),
		a.statusCommand(),
		a.devDestroy(),
		a.tenantCommand(),
		a.builderCommand(),
		a.flakeCommand(),
		a.applyCommand(),
		a.exportCommand(),
		a.netCommand(),
		a.retainedCommand(),
		a.gcCommand(),
		a.topCommand(),
		a.metricsCommand(),
		a.syncCommand(),
		a.doctorCommand(),
		a.reconcileCommand(),
		a.auditCommand(),
		a.superviseCommand(),
		a.completionCommand(),
		a.helpCommand(),
		a.upgradeCommand(),
		a.versionCommand(),
	}
}
