package firecracker

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/vmm"
)

// programs puts stand-ins of these names into a folder.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho 'Firecracker v1.16.1'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTheJailerIsUsedWhereverItIs: the jailer beside the binary is taken, then
// one in PATH; without one nothing starts, unless that was asked for.
func TestTheJailerIsUsedWhereverItIs(t *testing.T) {
	both, alone, elsewhere := programs(t, "firecracker", "jailer"), programs(t, "firecracker"), programs(t, "jailer")

	t.Setenv("PATH", both)
	if d, err := New(Options{}); err != nil || d.Jailer != filepath.Join(both, "jailer") {
		t.Errorf("in PATH: %+v, %v", d, err)
	}
	t.Setenv("PATH", elsewhere)
	if d, err := New(Options{Binary: filepath.Join(both, "firecracker")}); err != nil || d.Jailer != filepath.Join(both, "jailer") {
		t.Errorf("beside: %+v, %v", d, err)
	}
	if d, err := New(Options{Binary: filepath.Join(alone, "firecracker")}); err != nil || d.Jailer != filepath.Join(elsewhere, "jailer") {
		t.Errorf("in PATH alone: %+v, %v", d, err)
	}
	t.Setenv("PATH", alone)
	for _, o := range []Options{{}, {Jailer: filepath.Join(alone, "jailer")}} {
		if d, err := New(o); !errors.Is(err, ErrNoJailer) {
			t.Errorf("%+v without a jailer: %+v, %v", o, d, err)
		}
	}
	d, err := New(Options{NoJailer: true})
	if err != nil || d.Jailer != "" {
		t.Fatalf("without a jailer, as asked: %+v, %v", d, err)
	}
	if d.Binary, err = os.Executable(); err != nil { // one that is no script
		t.Fatal(err)
	}
	machine := vmm.Machine{ID: "acme", UID: 900010, GID: 900010, Jail: "/run/mvm/jail/firecracker/acme/root"}
	launch, err := d.launch(machine)
	if err != nil || launch.KeepRoot || launch.Root == "" || launch.UID != 900010 {
		t.Errorf("mvm's own jail: %+v, %v", launch, err)
	}
	d.Jailer = filepath.Join(both, "jailer")
	launch, err = d.launch(machine)
	if err != nil || !launch.KeepRoot || launch.Root != "" || launch.UID != 900010 || launch.GID != 900010 {
		t.Errorf("the jailer's: %+v, %v", launch, err)
	}
}

// TestVersionsThatFit: one older than mvm's model can hold is not used, none of
// another major version, and none older than the configuration is for.
func TestVersionsThatFit(t *testing.T) {
	binary := filepath.Join(programs(t, "firecracker"), "firecracker")
	for _, c := range []struct {
		says  string
		needs fcconfig.Version
		want  string // in the refusal
	}{
		{"1.15.0", fcconfig.Version{}, ""}, {"1.17.0", fcconfig.Version{1, 17, 0}, ""}, {"1.18.0-dev", fcconfig.Version{1, 17, 3}, ""},
		{"1.14.4", fcconfig.Version{}, "works with 1.15.0"}, {"2.0.0", fcconfig.Version{}, "newer 1.x"},
		{"1.16.1", fcconfig.Version{1, 17, 0}, "is for 1.17.0"}, {"new", fcconfig.Version{}, "cannot tell"},
	} {
		if err := os.WriteFile(binary, []byte("#!/bin/sh\necho 'Firecracker v"+c.says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		d := &Driver{Options: Options{Binary: binary}}
		got, err := d.fittingVersion(t.Context(), fcconfig.Config{MinVersion: c.needs})
		switch {
		case c.want == "" && (err != nil || got != c.says):
			t.Errorf("%s: %q, %v", c.says, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %q, %v; want a refusal with %q", c.says, got, err, c.want)
		}
	}
}

// ended runs a shell in Firecracker's place and says how it ended.
func ended(t *testing.T, script string) vmm.Exit {
	t.Helper()
	v := &machine{console: &vmm.PanicWatch{}, words: &vmm.LastWords{}}
	var err error
	v.process, err = vmm.Launch{
		Path: "/bin/sh", Args: []string{"-c", script}, UID: 65534, GID: 65534, Stdout: v.console, Stderr: v.words,
	}.Start()
	if err != nil {
		t.Fatal(err)
	}
	<-v.process.Done()
	return v.explain()
}

// TestExitsInWords: whatever Firecracker ends with is said in words.
func TestExitsInWords(t *testing.T) {
	for code, want := range map[int]string{
		1: "a configuration it refuses", 2: "did not expect", 148: "seccomp", 149: "SIGBUS", 150: "SIGSEGV", 151: "SIGXFSZ",
		152: "configuration", 153: "arguments", 154: "SIGXCPU", 156: "SIGHUP", 157: "SIGILL", 77: "does not document",
	} {
		e := ended(t, "echo its last words >&2; exit "+strconv.Itoa(code))
		if e.Code != code || e.Cause != vmm.Failed || !strings.Contains(e.Reason, want) || !strings.HasSuffix(e.Reason, ": its last words") {
			t.Errorf("code %d: %+v, want it to say %q and its last words", code, e, want)
		}
	}
	if e := ended(t, "exit 0"); e.Cause != vmm.GuestEnded || !strings.Contains(e.Reason, "rebooted") {
		t.Errorf("code 0: %+v", e)
	}
	if e := ended(t, "echo 'Kernel panic - not syncing: no init'; exit 0"); e.Cause != vmm.GuestEnded || !strings.Contains(e.Reason, "panicked: no init") {
		t.Errorf("a panic: %+v", e)
	}
	if e := ended(t, "kill -KILL $$"); e.Cause != vmm.Killed || e.Signal != syscall.SIGKILL || !strings.Contains(e.Reason, "outside") {
		t.Errorf("killed: %+v", e)
	}
	if e := ended(t, "echo why >&2; kill -ABRT $$"); e.Cause != vmm.Failed || e.Signal != syscall.SIGABRT || !strings.HasSuffix(e.Reason, ": why") {
		t.Errorf("aborted: %+v", e)
	}
}
