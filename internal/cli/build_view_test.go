package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/await"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/goldenfile"
	"github.com/auser/mvm/internal/tmuxtest"
)

// someBuild is what a build tells, as it goes.
var someBuild = []build.Event{
	{Phase: build.PhaseSnapshot, Kind: build.Entered, Text: "/home/me/guest"},
	{Phase: build.PhaseContainer, Kind: build.Entered, Text: "localhost/mvm-builder:local"},
	{Phase: build.PhaseEvaluate, Kind: build.Entered},
	{Phase: build.PhaseEvaluate, Kind: build.Step, Text: "downloading 'https://example.org/nixpkgs.tar.gz'",
		Counts: build.Counts{Fetches: build.Count{Done: 1, Expected: 3, Running: 1}, Bytes: build.Count{Done: 5 << 20, Expected: 40 << 20}}},
	{Phase: build.PhaseBuild, Kind: build.Entered},
	{Phase: build.PhaseBuild, Kind: build.Step, Text: "building '/nix/store/0123456789abcdfghijklmnpqrsvwxyz-linux-6.12.drv'",
		Counts: build.Counts{Builds: build.Count{Done: 2, Expected: 4, Running: 1}, Copies: build.Count{Done: 17, Expected: 20}, Bytes: build.Count{Done: 40 << 20, Expected: 40 << 20}}},
	{Phase: build.PhaseBuild, Kind: build.Log, Source: "linux-6.12", Text: "  CC      fs/ext4/inode.o",
		Counts: build.Counts{Builds: build.Count{Done: 2, Expected: 4, Running: 1, Failed: 1}, Copies: build.Count{Done: 20, Expected: 20}, Bytes: build.Count{Done: 40 << 20}}},
	{Phase: build.PhaseCopy, Kind: build.Entered},
	{Phase: build.PhaseDone, Kind: build.Entered},
}

func TestBuildView(t *testing.T) {
	var b strings.Builder
	for _, width := range []int{100, 30} {
		v := buildView{what: "building acme"}
		for i, e := range someBuild {
			v.take(e)
			fmt.Fprintf(&b, "-- %d columns, event %d\n", width, i)
			for _, line := range v.lines(time.Duration(i)*1300*time.Millisecond, width) {
				if len([]rune(line)) >= width {
					t.Errorf("too wide for %d: %q", width, line)
				}
				b.WriteString(line + "\n")
			}
		}
	}
	goldenfile.Check(t, "testdata/build_view.golden", b.String())
}

// TestPlainBuild is what a script or a log sees: no control characters.
func TestPlainBuild(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		var err strings.Builder
		a := &app{Streams: Streams{Err: &err}, quiet: quiet}
		progress, stop := a.followBuild("building acme")
		for _, e := range someBuild {
			progress(e)
		}
		stop()
		if strings.ContainsAny(err.String(), "\r\x1b") || a.quiet != (err.String() == "") {
			t.Errorf("quiet %v: %q", a.quiet, err.String())
		}
	}
}

// fakeBuild tells of a build that waits for its end, as the command does.
func fakeBuild(ctx context.Context) int {
	a := &app{Streams: Streams{In: os.Stdin, Out: io.Discard, Err: os.Stderr}}
	progress, stop := a.followBuild("building acme")
	for i, e := range someBuild[:7] {
		progress(e)
		if i == 3 {
			a.note("a note on the way")
		}
	}
	fail := make(chan struct{})
	go func() {
		os.Stdin.Read(make([]byte, 1)) // a key lets it fail
		close(fail)
	}()
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-fail:
		err = &build.Error{Kind: build.ErrBuild, Msg: "Nix could not build the guest", Log: "the last words of linux"}
	}
	stop()
	return a.report(ctx, err)
}

// TestBuildInATerminal shows a build in tmux, ends one by Ctrl-C and lets one
// fail: the view is gone then, and the terminal works as before.
func TestBuildInATerminal(t *testing.T) {
	tmux, see := startTmux(t, "fake-build")
	see("READY:")
	tmux("send-keys", "clear; fake-build; echo ended with $?", "Enter")
	see("building acme: building, ")
	see("built 2 of 4 (1 failed), copied 20 of 20, 40 MiB")
	see("linux-6.12>   CC      fs/ext4/inode.o")
	first := tmux("capture-pane", "-p")
	await.Until(t, 30*time.Second, func() (bool, string) {
		return tmux("capture-pane", "-p") != first, "without events the time does not go on"
	})
	tmux("send-keys", "C-c")
	see("ended with 130")
	screen := tmux("capture-pane", "-p")
	if !strings.HasPrefix(screen, "a note on the way\n") {
		t.Errorf("what was said meanwhile does not stay:\n%s", screen)
	}
	if strings.Contains(screen, "building acme") || strings.Contains(screen, "inode.o") {
		t.Errorf("the view is left on the screen:\n%s", screen)
	}
	tmux("send-keys", "clear; fake-build; echo failed with $?", "Enter")
	see("building acme: building, ")
	tmux("send-keys", "Enter")
	see("the last words of linux")
	see("mvm: Nix could not build the guest")
	see("failed with 1\nREADY:")
	tmux("send-keys", "stty -a | tr ' ' '\\n' | grep -cx -e icanon -e 'echo;*' -e isig", "Enter")
	see("\n3\n")
}

// TestDevShowsItsBuild runs mvm start with an engine that pulls for as long as
// it is let: the build is shown as a tenant's is, and gone when it fails.
func TestDevShowsItsBuild(t *testing.T) {
	tmux, see := startTmux(t, "mvm")
	see("READY:")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"flake/flake.nix":  "{ outputs = _: { }; }\n",
		"root/config.toml": "tier = \"software\"\n[build]\nengine = \"podman\"\n",
		"bin/podman": `#!/bin/sh
case $1 in
info) echo 5.0.0 ;;
image) echo "image not known" >&2; exit 1 ;;
pull) read end < ` + dir + `/pulled; echo "no such registry" >&2; exit 1 ;;
esac
`} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(dir+"/pulled", 0o600); err != nil {
		t.Fatal(err)
	}
	tmux("send-keys", "cd "+dir+"; clear; PATH=$PWD/bin:$PATH MVM_ROOT=$PWD/root mvm start --flake ./flake; echo ended with $?", "Enter")
	see("building the dev microVM: starting the container, ")
	see("pulling ")
	if err := os.WriteFile(dir+"/pulled", []byte("end\n"), 0o600); err != nil { // waits for the reader
		t.Fatal(err)
	}
	see("ended with 5")
	screen := tmux("capture-pane", "-p", "-J")
	if strings.Contains(screen, "building the dev microVM:") || !strings.Contains(screen, "mvm: cannot start the dev microVM: cannot build it: cannot pull builder image") {
		t.Errorf("it is left with:\n%s", screen)
	}
}

// startTmux runs a shell in a terminal of its own, for which this very test
// binary is a program with the given name. see waits until something is on the
// screen.
func startTmux(t *testing.T, program string) (tmux func(args ...string) string, see func(want string)) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, dir+"/"+program); err != nil { // testscript tells it by its name
		t.Fatal(err)
	}
	term := tmuxtest.New(t, 20, dir, "MVM_ROOT="+dir+"/root")
	return term.Do, term.See
}
