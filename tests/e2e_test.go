// Package tests runs mvm end to end: real containers, real Nix, real bridges,
// real guests. The scripts in testdata/script read as documentation.
//
// The package needs root. It runs itself in a network namespace of its own,
// with a container engine where the host has none, so it changes nothing of
// the host's network.
package tests

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/await"
	"github.com/auser/mvm/internal/devvm"
)

const (
	inNetns  = "MVM_IN_NETNS"
	cacheEnv = "MVM_TEST_CACHE" // what make prepare fetched
)

func TestMain(m *testing.M) {
	if os.Getenv(inNetns) != "1" {
		os.Exit(runInNetns())
	}
	os.Exit(m.Run())
}

// runInNetns runs this very test binary again, in a namespace of its own.
func runInNetns() int {
	cache, err := cacheDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("../scripts/netns", append([]string{filepath.Join(cache, "test", "engine"), os.Args[0]}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "cannot enter a network namespace:", err)
		return 1
	}
	return 0
}

func cacheDir() (string, error) {
	dir := os.Getenv(cacheEnv)
	if dir == "" {
		dir = "../.cache"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "debian")); err != nil {
		return "", fmt.Errorf("the guests' packages are not there: run make prepare (%w)", err)
	}
	return dir, nil
}

// TestScripts runs testdata/script/*.txt one after the other. They share a
// state directory, and so what was built.
func TestScripts(t *testing.T) {
	env := newEnv(t)
	scripts, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txt"), func(t *testing.T) {
			t.Cleanup(func() { env.nothingLeft(t) }) // after the script, which is a subtest
			testscript.Run(t, testscript.Params{
				Files:               []string{script},
				Setup:               env.setup,
				Cmds:                commands,
				Condition:           env.condition,
				RequireExplicitExec: false,
				RequireUniqueNames:  true,
			})
		})
	}
}

// env is what all scripts share.
type env struct {
	repo, cache, root, bin string
	firecracker            string // what guests run on; "" emulates them
}

func newEnv(t *testing.T) *env {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	repo, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	e := &env{repo: repo, cache: cache, root: filepath.Join(cache, "test", "root"), bin: t.TempDir(), firecracker: os.Getenv(firecrackerEnv)}
	e.goBuild(t, "mvm", "./cmd/mvm")
	e.prepareRoot(t, "10.50.0.1/24", "")
	return e
}

func (e *env) goBuild(t *testing.T, name, pkg string, flags ...string) {
	t.Helper()
	args := append([]string{"build", "-trimpath", "-o", filepath.Join(e.bin, name)}, flags...)
	build := exec.Command("go", append(args, pkg)...)
	build.Dir, build.Env = e.repo, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s: %v\n%s", name, err, out)
	}
}

// firecrackerEnv names a Firecracker, with its jailer beside it, to run guests
// with on a host that has KVM. Without it they are emulated.
const firecrackerEnv = "MVM_TEST_FIRECRACKER"

// setUp is how mvm is told what this state directory's guests run on.
func (e *env) setUp() []string {
	if e.firecracker == "" {
		return []string{"setup", "--tier", e.tier()}
	}
	return []string{"setup", "--tier", e.tier(), "--firecracker", filepath.Dir(e.firecracker), "--firecracker-unverified"}
}

func (e *env) tier() string {
	if e.firecracker == "" {
		return "software"
	}
	return "kvm"
}

// condition makes a line of a script that begins with [software] or [kvm] one
// of that tier's.
func (e *env) condition(word string) (bool, error) {
	if word != "software" && word != "kvm" {
		return false, fmt.Errorf("there is no tier %s", word)
	}
	return word == e.tier(), nil
}

// prepareRoot makes a state directory that builds offline, from what was
// fetched.
func (e *env) prepareRoot(t *testing.T, subnet, moreSettings string) {
	t.Helper()
	if err := os.MkdirAll(e.root, 0o700); err != nil {
		t.Fatal(err)
	}
	e.removeTenants(t) // of a run that was killed
	settings := fmt.Sprintf("[network]\nsubnet = %q\ndns = [\"192.0.2.53\"]\n[build]\ncache = %q\noffline = true\n%s", subnet, filepath.Join(e.cache, "debian"), moreSettings)
	if err := os.WriteFile(filepath.Join(e.root, "config.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	e.mvm(t, e.setUp()...)
	e.mvm(t, "builder", "build-local", "--from", filepath.Join(e.cache, "builder"))
	e.mvm(t, "gc") // the Nix stores of a run that was killed
	t.Cleanup(func() { e.removeTenants(t) })
}

func (e *env) mvm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.try(args...)
	if err != nil {
		t.Fatalf("mvm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// try is mvm where it may fail.
func (e *env) try(args ...string) (said string, err error) {
	cmd := exec.Command(filepath.Join(e.bin, "mvm"), append([]string{"--root", e.root}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (e *env) removeTenants(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(e.root, "tenants"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		e.mvm(t, "tenant", "destroy", strings.TrimPrefix(entry.Name(), ".gone-"), "--wipe-volumes", "--yes")
	}
	e.mvm(t, "destroy", "--yes")
}

// nothingLeft fails if anything but caches outlived a script.
func (e *env) nothingLeft(t *testing.T) {
	t.Helper()
	e.removeTenants(t)
	e.wantNoLeftovers(t)
}

func (e *env) wantNoLeftovers(t *testing.T) {
	t.Helper()
	roots := []string{e.root}
	if _, err := os.Stat(devvm.Dir(e.root)); err == nil { // once it was used
		roots = append(roots, devvm.Dir(e.root))
	}
	for _, root := range roots {
		if out, err := exec.Command("../scripts/leftovers", root).CombinedOutput(); err != nil {
			t.Errorf("something is left behind: %v\n%s", err, out)
		}
	}
}

func (e *env) setup(s *testscript.Env) error {
	config := filepath.Join(e.root, "config.toml")
	settings, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	s.Defer(func() { // a script that changes it may fail midway
		if err := os.WriteFile(config, settings, 0o600); err != nil {
			s.T().Fatal(err)
		}
	})
	s.Setenv("PATH", e.bin+":"+os.Getenv("PATH"))
	s.Setenv("MVM_ROOT", e.root)
	s.Setenv("REPO", e.repo)
	s.Setenv("TIER", e.tier())
	s.Setenv("DOCKER_HOST", os.Getenv("DOCKER_HOST"))
	s.Setenv(inNetns, "1")
	s.Setenv("SECRET", "secret-"+rand.Text())
	return nil
}

var commands = map[string]func(*testscript.TestScript, bool, []string){
	"ageid":   cmdAgeID,
	"exits":   cmdExits,
	"absent":  cmdAbsent,
	"hidden":  cmdHidden,
	"killvmm": cmdKillVMM,
	"traced":  cmdTraced,
	"signal":  cmdSignal,
	"onsmall": cmdOnSmall,
}

// onsmall DIR SIZE gives a folder a disk of its own, of that size, with what
// the folder held, until the script ends.
func cmdOnSmall(ts *testscript.TestScript, _ bool, args []string) {
	dir, aside := args[0], filepath.Join(ts.Getenv("WORK"), "aside")
	ts.Check(ts.Exec("cp", "-a", "--sparse=always", dir, aside))
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+args[1]))
	ts.Defer(func() { ts.Check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ts.Check(ts.Exec("cp", "-a", "--sparse=always", aside+"/.", dir))
}

// exits CODE command… runs a command that must end with this very code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if (got == want) == neg {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// absent VALUE path… fails if a file below the paths holds VALUE.
func cmdAbsent(ts *testscript.TestScript, neg bool, args []string) {
	found := ""
	for _, path := range args[1:] {
		err := filepath.WalkDir(ts.MkAbs(path), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() && d.Type()&fs.ModeSymlink == 0 {
				return err
			}
			holds, err := fileHolds(p, args[0])
			if holds {
				found = p
			}
			return err
		})
		ts.Check(err)
	}
	if (found == "") == neg {
		ts.Fatalf("absent: found in %q", found)
	}
}

func fileHolds(path, value string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENXIO) { // a dangling link; a socket
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	buf := make([]byte, 0, 1<<20+len(value))
	for {
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if bytes.Contains(buf, []byte(value)) {
			return true, nil
		}
		if err != nil {
			return false, nil // end of file
		}
		keep := min(len(value), len(buf))
		buf = buf[:copy(buf[:cap(buf)], buf[len(buf)-keep:])]
	}
}

// runsGuests says of a process's arguments whether they are a supervisor's or a
// VMM's.
func runsGuests(argv []byte) bool {
	words := strings.Split(string(argv), "\x00")
	program := filepath.Base(words[0])
	return strings.HasPrefix(program, "firecracker") || strings.HasPrefix(program, "qemu-system") || slices.Contains(words, "supervise")
}

// hidden VALUE fails if a process of mvm's has VALUE in its arguments or
// environment. The scripts' own processes have it, by way of testing.
func cmdHidden(ts *testscript.TestScript, neg bool, args []string) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	looked := 0
	for _, cmdline := range files {
		argv, err := os.ReadFile(cmdline)
		if err != nil || !runsGuests(argv) {
			continue // gone, or not mvm's
		}
		environ, err := os.ReadFile(filepath.Join(filepath.Dir(cmdline), "environ"))
		ts.Check(err)
		looked++
		if bytes.Contains(append(argv, environ...), []byte(args[0])) != neg {
			ts.Fatalf("%s has it", cmdline)
		}
	}
	if looked < 2 {
		ts.Fatalf("no supervisor and VMM to look at")
	}
}

// traced FILE STEP… fails unless FILE is in Chrome's trace event format and has
// each of the steps once, inside of the whole that the file spans.
func cmdTraced(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: traced <file> <step>…")
	}
	var doc struct {
		Events []struct {
			Name  string   `json:"name"`
			Phase string   `json:"ph"`
			TS    *float64 `json:"ts"`
			Dur   *float64 `json:"dur"`
			PID   int      `json:"pid"`
			TID   int      `json:"tid"`
		} `json:"traceEvents"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &doc))
	seen := map[string]int{}
	for _, e := range doc.Events {
		if e.TS == nil || e.Dur == nil || *e.TS < 0 || *e.Dur < 0 || e.PID == 0 || e.TID == 0 {
			ts.Fatalf("%+v is no whole event", e)
		}
		if e.Phase == "X" {
			seen[e.Name]++
		}
	}
	for _, step := range args[1:] {
		if seen[step] != 1 {
			ts.Fatalf("step %q is there %d times", step, seen[step])
		}
	}
}

// ageid FILE makes an age identity, as age-keygen does.
func cmdAgeID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ageid <file>")
	}
	identity, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(identity.String()+"\n"), 0o600))
}

// killvmm ID [SEGV] kills the tenant's VMM by its pid, as a person would, or as
// a fault of its own would.
func cmdKillVMM(ts *testscript.TestScript, neg bool, args []string) {
	signal := unix.SIGKILL
	if len(args) == 2 && args[1] == "SEGV" {
		args, signal = args[:1], unix.SIGSEGV
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: killvmm <id> [SEGV]")
	}
	ts.Check(killAndWait(pids(ts, ts.Getenv("MVM_ROOT"), args[0]).VMM, signal))
}

// killAndWait ends a process and returns when it has ended: the kernel takes
// its time over one with much memory.
func killAndWait(pid int, signal syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		return err
	}
	return waitEnded(fd)
}

// waitEnded returns when the process that the pidfd fd stands for has ended.
func waitEnded(fd int) error {
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ended, 60_000)
		switch {
		case err == unix.EINTR:
		case err == nil && n == 0:
			return errors.New("the process does not end")
		default:
			return err
		}
	}
}

// waitUntil waits for a condition, 60 seconds at most.
func waitUntil(t *testing.T, holds func() (ok bool, why string)) {
	t.Helper()
	await.Until(t, time.Minute, holds)
}

// signal KILL|STOP dev/vmm|dev/supervisor signals a process of the dev
// microVM's.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP}
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal KILL|STOP dev/vmm|dev/supervisor")
	}
	p := pids(ts, devvm.Dir(ts.Getenv("MVM_ROOT")), devvm.ID)
	pid, ok := map[string]int{"dev/vmm": p.VMM, "dev/supervisor": p.Supervisor}[args[1]]
	if !ok {
		ts.Fatalf("there is no %s", args[1])
	}
	if args[0] == "KILL" {
		ts.Check(killAndWait(pid, unix.SIGKILL))
		return
	}
	ts.Check(syscall.Kill(pid, signals[args[0]]))
}

type processes struct {
	VMM        int `json:"firecracker_pid"`
	Supervisor int `json:"supervisor_pid"`
}

// pids are those of a microVM that runs.
func pids(ts *testscript.TestScript, root, id string) processes {
	mvm := filepath.Join(strings.Split(ts.Getenv("PATH"), ":")[0], "mvm")
	out, err := exec.Command(mvm, "--root", root, "tenant", "show", id, "--json").Output()
	ts.Check(err)
	var shown struct {
		State processes `json:"state"`
	}
	ts.Check(json.Unmarshal(out, &shown))
	if shown.State.VMM < 2 || shown.State.Supervisor < 2 {
		ts.Fatalf("%s does not run", id)
	}
	return shown.State
}
