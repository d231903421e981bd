package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// takesTurns has one place for guests that boot, and takes it itself: what is
// started meanwhile waits, and can be stopped, killed and left alone like
// everything else. Then the place is free, and one boots after the other.
func (k *killEnv) takesTurns(t *testing.T) {
	k.limit(t, "boots_at_once = 1")
	ids := []string{"acme", "beta", "gamma"}
	for _, id := range ids {
		k.mvm(t, create(id)...)
		k.linkTenant(t, id)
	}
	k.mvm(t, "tenant", "set", "acme", "--restart", "always")
	place := k.takePlace(t)

	// Whoever waits is told so, in the order of arrival.
	acme := k.runWaits(t, "acme", 0, "--no-wait")
	beta := k.runWaits(t, "beta", 1, "--no-wait")
	// So does whoever finds the tenant started; a deadline for the guest's answer has not begun.
	acmeToo := k.background(t, "tenant", "run", "acme", "--no-wait")
	again := k.background(t, "tenant", "run", "acme", "--timeout", "1ms")
	gamma := k.runWaits(t, "gamma", 2, "--timeout", "1ms")

	// Stop, a killed supervisor, and the end of the command that waits.
	k.mvm(t, "tenant", "stop", "beta")
	beta.ends(t, 4, "it was stopped while it waited for its turn")
	k.wantPhase(t, "beta", "stopped", "stopped while it waited")
	kill(t, k.showOf(t, "gamma").State.Supervisor)
	gamma.ends(t, 1, "the supervisor ended")
	k.wantPhase(t, "gamma", "failed", "its supervisor ended unexpectedly")
	acme.Process.Signal(os.Interrupt)
	acme.ends(t, 130, "goes on waiting for its turn")
	k.wantPhase(t, "acme", "starting", "waits for its turn")

	// Killed where it begins to wait, it is run again; destroy ends that, too.
	if out, err := k.crash([]string{"tenant", "run", "gamma", "--no-wait"}, "MVM_CRASH_AT=supervisor/queued"); err == nil {
		t.Fatalf("it was not killed: %s", out)
	}
	gamma = k.runWaits(t, "gamma", 1, "--no-wait")
	k.mvm(t, "tenant", "destroy", "gamma", "--yes", "--wipe-volumes")
	gamma.ends(t, 4, "it was stopped while it waited for its turn")

	// The place is given on: to the first, and from there to the next.
	beta = k.runWaits(t, "beta", 1, "--no-wait")
	place.Close()
	acmeToo.ends(t, 0, "runs already")
	again.ends(t, 4, "did not answer on SSH within 1ms")
	beta.ends(t, 0, "beta started")
	k.wantPhase(t, "acme", "running", "")
	k.wantPhase(t, "beta", "running", "")

	// A restart takes its turn, too, and so does what reconcile starts.
	place = k.takePlace(t)
	kill(t, k.showOf(t, "acme").State.PID)
	k.waitsForTurn(t, "acme")
	kill(t, k.showOf(t, "acme").State.Supervisor)
	k.waitFor(t, func(s observed) bool { return s.Phase == "failed" })
	reconcile := k.background(t, "reconcile")
	k.waitsForTurn(t, "acme")
	place.Close()
	reconcile.ends(t, 0, "acme: start it")
	k.wantPhase(t, "acme", "running", "")
	k.mvm(t, "tenant", "stop", "acme", "--timeout", "0")
	k.mvm(t, "tenant", "stop", "beta", "--timeout", "0")
	k.nothingLeft(t)
}

// limit adds a line to the limits in the settings.
func (k *killEnv) limit(t *testing.T, line string) {
	t.Helper()
	path := filepath.Join(k.root, "config.toml")
	settings, err := os.ReadFile(path)
	if err == nil {
		settings = bytes.Replace(settings, []byte("[limits]\n"), []byte("[limits]\n"+line+"\n"), 1)
		err = os.WriteFile(path, settings, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// takePlace takes the only place there is, when it is free.
func (k *killEnv) takePlace(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(k.root, "locks", "boot.0"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// command is one that was started and goes on.
type command struct {
	*exec.Cmd
	said bytes.Buffer
	told string // what it is to have said by its end
}

func (k *killEnv) background(t *testing.T, args ...string) *command {
	t.Helper()
	c := &command{Cmd: exec.Command(filepath.Join(k.bin, "mvm"), append([]string{"--root", k.root}, args...)...)}
	c.Stdout, c.Stderr = &c.said, &c.said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	return c
}

// ends waits for the command's end and looks at its exit code and words.
func (c *command) ends(t *testing.T, code int, said string) {
	t.Helper()
	err := c.Wait()
	if got := c.ProcessState.ExitCode(); got != code {
		t.Errorf("%q ended with %d, want %d (%v)", c.Args[3:], got, code, err)
	}
	for _, want := range []string{said, c.told} {
		if !strings.Contains(c.said.String(), want) {
			t.Errorf("%q says\n%swithout %q", c.Args[3:], c.said.String(), want)
		}
	}
}

// runWaits runs a tenant and returns when it waits for its turn, after so many
// others.
func (k *killEnv) runWaits(t *testing.T, id string, before int, flags ...string) *command {
	t.Helper()
	c := k.background(t, append([]string{"tenant", "run", id}, flags...)...)
	c.told = fmt.Sprintf("it waits for its turn to boot, %d before it", before)
	k.waitsForTurn(t, id)
	return c
}

// waitsForTurn returns when the tenant waits for its turn.
func (k *killEnv) waitsForTurn(t *testing.T, id string) {
	t.Helper()
	waitUntil(t, func() (bool, string) {
		s := k.showOf(t, id)
		return s.Phase == "starting" && strings.Contains(s.Reason, "waits for its turn"), fmt.Sprintf("%s does not wait: %+v", id, s)
	})
}

func (k *killEnv) wantPhase(t *testing.T, id, phase, reason string) {
	t.Helper()
	if s := k.showOf(t, id); s.Phase != phase || !strings.Contains(s.Reason, reason) {
		t.Errorf("%s is %s (%s), want %s (%s)", id, s.Phase, s.Reason, phase, reason)
	}
}
