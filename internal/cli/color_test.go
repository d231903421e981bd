package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lima/limatest"
)

// TestColor runs a command that colours, on a terminal and off it.
func TestColor(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mvm, file := filepath.Join(dir, "mvm"), filepath.Join(dir, "tenants.yaml")
	if err := os.Symlink(self, mvm); err != nil { // testscript tells it by its name
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("version: 1\ntenants: {acme: {flake: ./flake}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "flake"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flake", "flake.nix"), []byte("{ outputs = _: { }; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const green = "\x1b[32m+ acme: create\x1b[m"
	for _, c := range []struct {
		name     string
		env      string
		flag     string
		terminal bool
		want     bool
	}{
		{name: "terminal", terminal: true, want: true},
		{name: "NO_COLOR", env: "NO_COLOR=1", terminal: true},
		{name: "empty NO_COLOR", env: "NO_COLOR=", terminal: true, want: true}, // as no-color.org has it
		{name: "no-color", flag: "--no-color", terminal: true},
		{name: "dumb terminal", env: "TERM=dumb", terminal: true},
		{name: "no terminal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"apply", "-f", file, "--dry-run"}
			if c.flag != "" {
				args = append(args, c.flag)
			}
			cmd := exec.Command(mvm, args...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm", "MVM_ROOT=" + filepath.Join(dir, "root")}
			if c.env != "" {
				cmd.Env = append(cmd.Env, c.env)
			}
			out := printed(t, cmd, c.terminal)
			if !strings.Contains(out, "+ acme: create") {
				t.Fatalf("it says %q", out)
			}
			if got := strings.Contains(out, green); got != c.want || !c.want && strings.Contains(out, "\x1b") {
				t.Errorf("coloured: %v, want %v: %q", got, c.want, out)
			}
		})
	}
}

// printed is what cmd prints on its standard output.
func printed(t *testing.T, cmd *exec.Cmd, terminal bool) string {
	t.Helper()
	var said bytes.Buffer
	cmd.Stderr = &said
	if !terminal {
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, &said)
		}
		return string(out)
	}
	master, slave, err := limatest.OpenTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 80, Row: 24}); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	out, _ := io.ReadAll(master) // EIO is how a terminal says that nobody has it open any more
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	return string(out)
}

func TestQuietAndVerbose(t *testing.T) {
	events := []build.Event{{Kind: build.Step, Text: "building hello"}, {Kind: build.Log, Text: "gcc -c hello.c"}}
	for _, c := range []struct {
		quiet, verbose bool
		want           string
	}{
		{false, false, "    building hello\n"},
		{false, true, "    building hello\n      gcc -c hello.c\n"},
		{true, false, ""},
		{true, true, ""},
	} {
		var said bytes.Buffer
		a := &app{Streams: Streams{Err: &said}, quiet: c.quiet, verbose: c.verbose}
		for _, e := range events {
			a.showBuild(e)
		}
		if said.String() != c.want {
			t.Errorf("quiet %v, verbose %v: %q, want %q", c.quiet, c.verbose, said.String(), c.want)
		}
	}
}
