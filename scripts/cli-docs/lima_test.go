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
	ofThisHost := []string{"flake", "volume", "file", "from-file", "from-env", "from", "to"}
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
			words := append(strings.Fields(cmd.CommandPath())[1:], "--"+f.Name, "./x")
			in := lima.FindInputs(words, "/home/ann")
			if len(in.Flakes)+len(in.Volumes) == 0 && in.Stdin+in.Stdout+in.Variable == "" {
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
