package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRestart kills the VMM of a tenant under each restart policy, again and
// again as far as the policy goes.
func TestRestart(t *testing.T) {
	k := newStandinEnv(t, "reboot", "10.54.0.1/24")
	k.buildTemplate(t)
	for _, c := range []struct {
		policy string
		kills  int    // that it survives
		reason string // of the end that it does not; empty: stopped instead
	}{
		{"no", 0, "killed"},
		{"on-failure:1", 1, "gave up after 1 restarts in a row"},
		{"always", 2, ""},
		{"unless-stopped", 2, ""},
	} {
		t.Run(c.policy, func(t *testing.T) {
			for _, args := range [][]string{create("acme"), {"link"}, {"tenant", "set", "acme", "--restart", c.policy}, {"tenant", "run", "acme", "--no-wait"}} {
				k.do(t, args)
			}
			for restart := range c.kills {
				k.killVMM(t)
				got := k.waitFor(t, func(s observed) bool { return s.Phase == "running" && s.State.Restarts == restart+1 })
				if got.State.Restarts != restart+1 {
					t.Fatalf("after %d kills: %+v", restart+1, got)
				}
			}
			k.killVMM(t)
			if c.reason != "" {
				got := k.waitFor(t, func(s observed) bool { return s.State.Phase == "failed" }) // the supervisor's word
				if !strings.Contains(got.Reason, c.reason) {
					t.Errorf("it failed because %q, want %q", got.Reason, c.reason)
				}
			} else {
				// Stopped while it waits to be restarted, it stays so.
				k.waitFor(t, func(s observed) bool { return s.Phase == "restarting" })
				k.hasNoVM(t)
				k.mvm(t, "tenant", "stop", "acme")
				k.want(t, "stopped")
			}
			k.mvm(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
			k.nothingLeft(t)
		})
	}
	t.Run("alone", k.standsAlone)
	t.Run("turns", k.takesTurns)
}

// hasNoVM: what needs the VM of a tenant that waits for its restart says so,
// and does not wait with it.
func (k *killEnv) hasNoVM(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{{"pause", "acme"}, {"volume", "grow", "acme", "64"}, {"secrets", "push", "acme"}} {
		said, err := k.try(append([]string{"tenant"}, args...)...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 4 || !strings.Contains(said, "it waits to be started again, in ") {
			t.Errorf("%v: %v\n%s", args, err, said)
		}
	}
}

// standsAlone: what runs is neither its caller's nor its caller's session's. It
// keeps nothing that the command was given open, such as the lock of a script,
// and goes on where the session ends that it was started in.
func (k *killEnv) standsAlone(t *testing.T) {
	for _, args := range [][]string{create("acme"), {"link"}} {
		k.do(t, args)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(filepath.Join(k.bin, "mvm"), "--root", k.root, "tenant", "run", "acme", "--no-wait")
	cmd.ExtraFiles = []*os.File{w, w, w, w} // more than a supervisor is given on purpose
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("what the command was given is still open: %v", err)
	}
	p, err := os.FindProcess(int(k.state(t)["supervisor_pid"].(float64)))
	if err == nil {
		err = p.Signal(syscall.SIGHUP)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.mvm(t, "tenant", "pause", "acme")
	k.mvm(t, "tenant", "resume", "acme")
	k.want(t, "running")

	// Who does not want to wait any longer need not.
	patient := exec.Command(filepath.Join(k.bin, "mvm"), "--root", k.root, "tenant", "stop", "acme", "--timeout", "1h")
	if err := patient.Start(); err != nil {
		t.Fatal(err)
	}
	k.waitFor(t, func(s observed) bool { return s.Phase == "stopping" })
	if err := patient.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	patient.Wait()
	k.mvm(t, "tenant", "stop", "acme", "--force")
	if got := k.show(t); got.Phase != "stopped" || !strings.Contains(got.Reason, "killed: it did not stop within") {
		t.Errorf("stopped at once it is %+v", got)
	}
	k.mvm(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
	k.nothingLeft(t)
}

// observed is what show says.
type observed struct {
	Phase  string `json:"phase"`
	Reason string `json:"reason"`
	State  struct {
		Phase      string `json:"phase"`
		PID        int    `json:"firecracker_pid"`
		Supervisor int    `json:"supervisor_pid"`
		Restarts   int    `json:"restarts"`
	} `json:"state"`
}

func (k *killEnv) show(t *testing.T) observed {
	t.Helper()
	return k.showOf(t, "acme")
}

func (k *killEnv) showOf(t *testing.T, id string) observed {
	t.Helper()
	var s observed
	if err := json.Unmarshal([]byte(k.mvm(t, "tenant", "show", id, "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (k *killEnv) waitFor(t *testing.T, holds func(observed) bool) (s observed) {
	t.Helper()
	waitUntil(t, func() (bool, string) {
		s = k.show(t)
		return holds(s), fmt.Sprintf("it stays %+v", s)
	})
	return s
}

func (k *killEnv) killVMM(t *testing.T) {
	t.Helper()
	kill(t, k.show(t).State.PID)
}

func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}
