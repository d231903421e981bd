package bootstrap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// This program is the command that installs, and the package managers, too.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); name {
	case "apt-get", "dnf", "pacman", "dpkg":
		os.Exit(fakeManager(name, os.Args[1:]))
	case "bootstrap":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
		if err := Install(ctx, This("amd64"), say, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const stopVar = "MVM_BOOTSTRAP_TEST_STOP" // at which step a package manager waits

// fakeManager installs a program for each package, in the folder that it is in
// itself. As the real ones do, it holds a lock while it is at work, and apt does
// nothing after an install that was cut short until dpkg has put that right.
func fakeManager(name string, args []string) int {
	bin := filepath.Dir(mustLook(name))
	lock, err := os.OpenFile(filepath.Join(bin, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	how := unix.LOCK_EX
	if name == "dpkg" { // which does not wait
		how |= unix.LOCK_NB
	}
	if err := unix.Flock(int(lock.Fd()), how); err != nil {
		fmt.Fprintln(os.Stderr, "the frontend lock was locked by another process")
		return 2
	}
	steps := &steps{stopAt: os.Getenv(stopVar), name: name}
	halfDone := filepath.Join(bin, ".half-done")
	switch {
	case name == "dpkg":
		steps.step()
		if err := os.RemoveAll(halfDone); err != nil {
			panic(err)
		}
		return 0
	case slices.Contains(args, "update"):
		steps.name += "-update"
		steps.step()
		return 0
	}
	if _, err := os.Stat(halfDone); err == nil && name == "apt-get" {
		fmt.Fprintln(os.Stderr, "E: dpkg was interrupted")
		return 100
	}
	write := func(path string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			panic(err)
		}
	}
	steps.step()
	write(halfDone, 0o600)
	for _, n := range needs("amd64") {
		m := managers[slices.IndexFunc(managers, func(m manager) bool { return m.program == name })]
		if slices.Contains(args, m.pkg(n)) {
			steps.step()
			write(filepath.Join(bin, n.programs[0]), 0o755)
		}
	}
	steps.step()
	if err := os.Remove(halfDone); err != nil {
		panic(err)
	}
	return 0
}

func mustLook(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		panic(err)
	}
	return path
}

// steps are where a package manager can be stopped.
type steps struct {
	stopAt, name string
	n            int
}

// step waits at the step that the test stops at: it says so, and waits until it
// is to go on or is ended.
func (s *steps) step() {
	at := s.name + "-" + strconv.Itoa(s.n)
	s.n++
	if at != s.stopAt {
		return
	}
	reached, err := os.OpenFile(filepath.Join(filepath.Dir(mustLook(s.program())), ".reached"), os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	fmt.Fprintln(reached, at)
	goOn := make(chan struct{})
	go func() {
		f, err := os.Open(filepath.Join(filepath.Dir(reached.Name()), ".go-on"))
		if err != nil {
			panic(err)
		}
		f.Close()
		close(goOn)
	}()
	select {
	case <-goOn:
	case <-interrupted:
		if err := os.WriteFile(filepath.Join(filepath.Dir(reached.Name()), ".asked"), nil, 0o600); err != nil {
			panic(err)
		}
		os.Exit(130)
	}
}

func (s *steps) program() string { p, _ := strings.CutSuffix(s.name, "-update"); return p }

// host is a folder with a package manager and nothing else in PATH.
type host struct{ bin string }

func newHost(t *testing.T, programs ...string) host {
	t.Helper()
	h := host{t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(programs, "bootstrap") {
		if err := os.Symlink(self, filepath.Join(h.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, fifo := range []string{".reached", ".go-on"} {
		if err := unix.Mkfifo(filepath.Join(h.bin, fifo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// start begins a bootstrap in a process group of its own, as a shell does.
func (h host) start(t *testing.T, stopAt string) (cmd *exec.Cmd, said *bytes.Buffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, filepath.Join(h.bin, "bootstrap"))
	cmd.Env = []string{"PATH=" + h.bin, stopVar + "=" + stopAt, "GORACE=" + os.Getenv("GORACE")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	said = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, said
}

// way is how a bootstrap is cut short.
type way struct {
	name   string
	group  bool // the package manager gets the signal, too, as from a terminal
	signal syscall.Signal
}

var ways = []way{
	{"Ctrl-C", true, unix.SIGINT},
	{"interrupted alone", false, unix.SIGINT},
	{"killed with all", true, unix.SIGKILL},
	{"killed alone", false, unix.SIGKILL}, // its package manager goes on
}

// TestInterrupted cuts a bootstrap short at every step of its package manager.
// The same command, given again, does the rest.
func TestInterrupted(t *testing.T) {
	for name, programs := range map[string][]string{"apt": {"apt-get", "dpkg"}, "dnf": {"dnf"}, "pacman": {"pacman"}} {
		places := []string{programs[0] + "-update-0"}
		if name != "apt" {
			places = nil
		}
		for i := range len(needs("amd64")) + 2 {
			places = append(places, programs[0]+"-"+strconv.Itoa(i))
		}
		for _, w := range ways {
			t.Run(name+", "+w.name, func(t *testing.T) {
				for _, at := range places {
					h := newHost(t, programs...)
					h.cutShort(t, at, w)
					h.converges(t, at)
				}
			})
		}
	}
}

func (h host) cutShort(t *testing.T, at string, w way) {
	t.Helper()
	cmd, said := h.start(t, at)
	// Both ends, so that this does not wait for ever for a manager that died.
	reached, err := os.OpenFile(filepath.Join(h.bin, ".reached"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reached.Close()
	if err := reached.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(reached).ReadString('\n'); err != nil || strings.TrimSpace(line) != at {
		t.Fatalf("%s: %q is reached, %v\n%s", at, line, err, said)
	}
	pid := cmd.Process.Pid
	if w.group {
		pid = -pid
	}
	if err := unix.Kill(pid, w.signal); err != nil {
		t.Fatal(err)
	}
	if !w.group && w.signal == unix.SIGKILL {
		next, nextSaid := h.start(t, "")
		goOn := os.WriteFile(filepath.Join(h.bin, ".go-on"), nil, 0)
		if err := errors.Join(goOn, next.Wait()); err != nil {
			t.Errorf("%s: beside what a killed one left at work: %v\n%s", at, err, nextSaid)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("%s: it was not cut short:\n%s", at, said)
	}
	if _, err := os.Stat(filepath.Join(h.bin, ".asked")); (err == nil) != (w.signal == unix.SIGINT) {
		t.Errorf("%s: whether the package manager was asked to end: %v", at, err)
	}
}

// converges runs it to the end, and finds nothing to do when it is run again.
func (h host) converges(t *testing.T, at string) {
	t.Helper()
	cmd, said := h.start(t, "")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: run again: %v\n%s", at, err, said)
	}
	for _, n := range needs("amd64") {
		if _, err := os.Stat(filepath.Join(h.bin, n.programs[0])); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	cmd, said = h.start(t, "")
	if err := cmd.Wait(); err != nil || said.Len() > 0 {
		t.Errorf("%s: a third time: %v, and it does something:\n%s", at, err, said)
	}
}
