package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/devvm"
	"github.com/auser/mvm/internal/lima/limatest"
)

// destroyers are the command lines that take something away which does not come
// back, each as far as the question.
var destroyers = map[string][]string{
	"mvm destroy":                nil,
	"mvm apply":                  {"-f", "FILE", "--prune"},
	"mvm retained rm":            {"acme-20260801T101500.000Z"},
	"mvm tenant destroy":         {"acme"},
	"mvm tenant secrets import":  {"acme"},
	"mvm tenant secrets rm":      {"acme", "token"},
	"mvm tenant volume check":    {"acme", "--repair"},
	"mvm tenant volume destroy":  {"acme", "/work"},
	"mvm tenant volume import":   {"acme"},
	"mvm tenant volume rollback": {"acme", "kept"},
	"mvm tenant volume rm":       {"acme", "kept"},
}

// destroys are names and flags that sound like it. gc, reconcile and doctor
// --fix are not among them: what they remove belongs to nobody, or is made
// again by the next build. Nor is what net remove removes lost: the next run
// makes it again.
var destroys = regexp.MustCompile(`^(destroy|delete|rm|remove|import|rollback|prune|repair|wipe.*|reset|recreate)$`)

// TestWhatDestroysAsks walks all commands: whatever sounds as if it destroyed
// has --yes, and whatever has it asks on a terminal and refuses where nobody is
// there to ask.
func TestWhatDestroysAsks(t *testing.T) {
	for _, cmd := range runnable(Command()) {
		sounds := destroys.MatchString(cmd.Name()) && cmd.CommandPath() != "mvm net remove"
		for name := range strings.FieldsSeq(flagNames(cmd)) {
			sounds = sounds || destroys.MatchString(name)
		}
		args, listed := destroyers[cmd.CommandPath()]
		if has := cmd.Flags().Lookup("yes") != nil; has != listed || sounds != listed {
			t.Errorf("%s: --yes %v, sounds like it %v, in this test's list %v", cmd.CommandPath(), has, sounds, listed)
			continue
		}
		if listed {
			t.Run(cmd.CommandPath(), func(t *testing.T) { refuses(t, cmd, args) })
		}
	}
}

func runnable(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			list = append(list, runnable(sub)...)
		}
	}
	return list
}

func flagNames(cmd *cobra.Command) string {
	var names []string
	for word := range strings.FieldsSeq(cmd.LocalFlags().FlagUsages()) {
		if name, ok := strings.CutPrefix(word, "--"); ok {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func refuses(t *testing.T, cmd *cobra.Command, args []string) {
	dir := t.TempDir()
	run := func(in *os.File, args ...string) (int, string) {
		t.Helper()
		var said bytes.Buffer
		code := Run(t.Context(), append([]string{"--root", dir + "/root"}, args...), Streams{In: in, Out: &said, Err: &said})
		return code, said.String()
	}
	mvm := func(stdin string, args ...string) (int, string) {
		t.Helper()
		in := filepath.Join(dir, "in")
		if err := os.WriteFile(in, []byte(stdin), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return run(f, args...)
	}
	must := func(stdin string, args ...string) {
		t.Helper()
		if code, said := mvm(stdin, args...); code != 0 {
			t.Fatalf("mvm %s: %d, %s", args, code, said)
		}
	}
	if err := os.MkdirAll(dir+"/flake", 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"flake/flake.nix": "{ outputs = _: { }; }", "tenants.yaml": "version: 1\ntenants: {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must("", "tenant", "create", "acme", "--flake", dir+"/flake", "--data-size", "16", "--volume", "16M:/work")
	must("s3cret", "tenant", "secrets", "set", "acme", "token")
	must("", "tenant", "volume", "snapshot", "acme", "kept")
	kept := dir + "/root/retained/acme-20260801T101500.000Z"
	if err := errors.Join(os.Mkdir(kept, 0o700), os.WriteFile(kept+"/work.ext4", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	dev := filepath.Join(devvm.Dir(dir+"/root"), "tenants", devvm.ID) // as far as the question
	if err := errors.Join(os.MkdirAll(dev, 0o700), os.WriteFile(dev+"/spec.json", []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	before := spread(t, dir)
	line := strings.Fields(cmd.CommandPath())[1:]
	for _, a := range args {
		line = append(line, strings.ReplaceAll(a, "FILE", dir+"/tenants.yaml"))
	}
	code, said := mvm("{}", line...)
	if code != 2 || !strings.Contains(said, "nobody is there to ask") || !strings.Contains(said, "hint: say --yes") {
		t.Errorf("%d, %s", code, said)
	}
	if after := spread(t, dir); after != before {
		t.Errorf("it did something:\n%s\nwas\n%s", after, before)
	}
	// On a terminal it asks, and everything but yes is a no.
	for _, answer := range []string{"n\n", "\n", "\x04"} {
		master, slave, err := limatest.OpenTerminal()
		if err != nil {
			t.Fatal(err)
		}
		if cmd.CommandPath() == "mvm tenant secrets import" {
			answer = "{}\n\x04" + answer // what is to be imported comes first
		}
		if _, err := io.WriteString(master, answer); err != nil {
			t.Fatal(err)
		}
		code, said := run(slave, line...)
		if code != 2 || !strings.Contains(said, "? [y/N] ") || !strings.Contains(said, "not confirmed, nothing was done") {
			t.Errorf("answered %q: %d, %s", answer, code, said)
		}
		if after := spread(t, dir); after != before {
			t.Errorf("answered %q, it did something:\n%s\nwas\n%s", answer, after, before)
		}
		slave.Close()
		master.Close()
	}
}

// TestInterruptedQuestion presses Ctrl-C where a yes or no is wanted.
func TestInterruptedQuestion(t *testing.T) {
	master, slave, err := limatest.OpenTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	asked, errOut := io.Pipe()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		a := &app{Streams: Streams{In: slave, Out: io.Discard, Err: errOut}, in: &stream{ctx: ctx, in: slave}}
		ended <- a.confirm(ctx, "Destroy everything", false)
	}()
	if _, err := asked.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, asked)
	interrupt()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// spread lists the tenants' files, and what is kept of those that are gone.
func spread(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	for _, folder := range []string{"tenants", "retained", "dev/tenants"} {
		err := filepath.Walk(filepath.Join(dir, "root", folder), func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				list.WriteString(path + " " + info.ModTime().String() + "\n")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list.String()
}
