package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auser/mvm/internal/cli"
	"github.com/auser/mvm/internal/lima"
)

// TestLimaKnowsWhatFlagsName: on a Mac, what these flags name is brought into
// the Lima VM, for every command that has them, whatever its verb is called.
func TestLimaKnowsWhatFlagsName(t *testing.T) {
	ofThisHost := []string{"flake", "volume", "file", "from-file", "from-env", "from", "to", "override-input", "trace"}
	inside := []string{"mvm builder fetch --to", "mvm builder build-local --from"} // the VM's own downloads
	checked := 0
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			name := cmd.CommandPath() + " --" + f.Name
			if !slices.Contains(ofThisHost, f.Name) || slices.Contains(inside, name) {
				return
			}
			checked++
			words := append(strings.Fields(cmd.CommandPath())[1:], "--"+f.Name, "./x=./x")
			in := lima.FindInputs(words, "/home/ann")
			if len(in.Flakes)+len(in.Volumes)+len(in.Overrides) == 0 && in.Stdin+in.Stdout+in.Variable+in.Trace == "" {
				t.Errorf("%s: what it names stays outside of the VM", name)
			}
		})
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(cli.Command())
	if checked < len(ofThisHost) {
		t.Errorf("only %d flags were looked at", checked)
	}
}

// TestLimaKnowsTheValuesOfFlags: no flag's value is taken for the tenant or the
// flake that a command is about.
func TestLimaKnowsTheValuesOfFlags(t *testing.T) {
	about := map[string]func(lima.Inputs) bool{
		"tenant build":   func(in lima.Inputs) bool { return in.Tenant == "acme" },
		"tenant run":     func(in lima.Inputs) bool { return slices.Equal(in.Runs, []string{"acme"}) },
		"tenant restart": func(in lima.Inputs) bool { return slices.Equal(in.Runs, []string{"acme"}) },
		"flake check":    func(in lima.Inputs) bool { return len(in.Flakes) == 1 },
	}
	for verb, right := range about {
		cmd, _, err := cli.Command().Find(strings.Fields(verb))
		if err != nil {
			t.Fatal(err)
		}
		check := func(f *pflag.Flag) {
			for _, words := range [][]string{{"--" + f.Name, "./x=y"}, {"--" + f.Name + "=./x=y"}} {
				if f.NoOptDefVal != "" {
					words = []string{"--" + f.Name}
				}
				what := "acme"
				if verb == "flake check" {
					what = "./acme"
				}
				args := append(append(strings.Fields(verb), words...), what)
				if in := lima.FindInputs(args, "/home/ann"); !right(in) {
					t.Errorf("%q became %+v", args, in)
				}
			}
		}
		cmd.InheritedFlags().VisitAll(check)
		cmd.LocalFlags().VisitAll(check)
	}
}
