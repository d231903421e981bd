package cli

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"mvm": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(Run(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
		"fake-top": func() { os.Exit(fakeTop()) },
		"fake-build": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			os.Exit(fakeBuild(ctx))
		},
	})
}

// TestScripts runs what needs no guest. Every script has a state directory of
// its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("MVM_ROOT", e.WorkDir+"/root")
			// Where mvm itself is, for a PATH without the host's programs.
			self, err := exec.LookPath("mvm")
			if err != nil {
				return err
			}
			e.Setenv("MVM_BIN", filepath.Dir(self))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits <code> <command>…")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					got = exitCode(err)
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
		},
	})
}

func exitCode(err error) int {
	if e, ok := err.(interface{ ExitCode() int }); ok {
		return e.ExitCode()
	}
	return -1
}

// TestHelpTeaches holds every command to the same manners.
func TestHelpTeaches(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 100 {
				t.Errorf("its purpose is not one line: %q", cmd.Short)
			}
			if cmd.Example == "" {
				t.Error("it shows no example")
			}
			if !strings.Contains(cmd.UsageString(), "\n  130  interrupted") && cmd.HasParent() {
				t.Error("its help does not list the exit codes")
			}
			for line := range strings.Lines(cmd.Example) {
				if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "mvm ") {
					t.Errorf("example %q is no command", line)
				}
			}
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" {
					t.Errorf("--%s is not explained", f.Name)
				}
			})
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(Command())
}

// withoutJSON are the commands that print none: they act, hand on what is no
// list of fields, or write another tool's format.
var withoutJSON = map[string]string{
	"bootstrap": "act", "setup": "act", "dev": "act", "start": "act", "stop": "act", "destroy": "act",
	"tenant create": "act", "tenant build": "act", "tenant run": "act", "tenant stop": "act", "tenant restart": "act", "tenant pause": "act", "tenant resume": "act",
	"tenant destroy": "act", "tenant set": "act", "tenant cp": "act", "tenant port-forward": "act",
	"tenant secrets set": "act", "tenant secrets import": "act", "tenant secrets rm": "act", "tenant secrets push": "act",
	"tenant volume check": "act", "tenant volume grow": "act", "tenant volume trim": "act", "tenant volume import": "act",
	"tenant volume snapshot": "act", "tenant volume rollback": "act", "tenant volume rm": "act", "tenant volume destroy": "act", "tenant volume adopt": "act",
	"builder pull": "act", "builder set": "act", "builder fetch": "act", "builder build-local": "act", "builder share": "act", "retained rm": "act", "net remove": "act",
	"ssh": "hand on", "logs": "hand on", "console": "hand on", "tenant ssh": "hand on", "tenant exec": "hand on", "tenant logs": "hand on", "tenant console": "hand on",
	"tenant volume export": "hand on", "top": "hand on",
	"tenant ssh-config": "format", "metrics": "format", "export": "format", "completion": "format", "help": "format",
}

// TestReadersPrintJSON holds every command that reads to --json.
func TestReadersPrintJSON(t *testing.T) {
	documented := Outputs()
	for _, cmd := range runnable(Command()) {
		if _, isGroup := cmd.Annotations[GroupAnnotation]; isGroup {
			continue
		}
		name := strings.TrimPrefix(cmd.CommandPath(), "mvm ")
		has := cmd.Flags().Lookup("json") != nil
		if _, exempt := withoutJSON[name]; has == exempt {
			t.Errorf("%s: --json %v, in this test's list of those without %v", name, has, exempt)
		}
		if _, ok := documented[cmd.CommandPath()]; ok != has {
			t.Errorf("%s: --json %v, documented %v", name, has, ok)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"lst", "list"}, {"destory", "destroy"}, {"list", ""}, {"zzz", ""}, {"", ""}, {"1", ""}, {"ec", "c"},
	} {
		if got := nearest(c.word, []string{"list", "destroy", "logs", "c"}); got != c.want {
			t.Errorf("nearest(%q) = %q, want %q", c.word, got, c.want)
		}
	}
}
