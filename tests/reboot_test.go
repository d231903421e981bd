package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReboot makes the host look as after a reboot: the supervisor and all it
// made are gone, so is what is volatile, and the boot has another id. The pids
// that the state names belong to a process that has nothing to do with mvm.
func TestReboot(t *testing.T) {
	k := newStandinEnv(t, "reboot", "10.54.0.1/24")
	k.buildTemplate(t)
	for _, c := range []struct {
		policy, stop string
		after        string // what the tenant is after reconcile
	}{
		{"no", "", "stopped"},
		{"on-failure", "", "running"},
		{"unless-stopped", "", "running"},
		{"unless-stopped", "stop", "stopped"},
		{"always", "", "running"},
		{"always", "stop", "running"},
	} {
		t.Run(strings.TrimSuffix(c.policy+"/"+c.stop, "/"), func(t *testing.T) {
			for _, args := range [][]string{create("acme"), {"link"}, {"tenant", "set", "acme", "--restart", c.policy}, {"tenant", "run", "acme", "--no-wait"}} {
				k.do(t, args)
			}
			k.writeNote(t)
			if c.stop != "" {
				k.mvm(t, "tenant", "stop", "acme", "--timeout", "0")
			}
			bystander := k.reboot(t, c.stop == "")
			k.want(t, "stopped") // observed, whatever the state says

			would := k.mvm(t, "reconcile", "--dry-run")
			if again := k.mvm(t, "reconcile", "--dry-run"); again != would {
				t.Errorf("a dry run changed something: first\n%sthen\n%s", would, again)
			}
			k.mvm(t, "reconcile")
			k.want(t, c.after)
			if said := k.mvm(t, "reconcile"); !strings.Contains(said, "everything is as it should be") {
				t.Errorf("a second reconcile did: %s", said)
			}
			k.mvm(t, "tenant", "destroy", "acme", "--yes")
			k.checkRetained(t)
			k.nothingLeft(t)
			if err := bystander.Process.Signal(os.Interrupt); err != nil {
				t.Errorf("a process that only had the pid was ended: %v", err)
			}
			bystander.Wait()
		})
	}
	t.Run("not at once", k.startsLater)
}

// startsLater: what cannot be started when the host is up is tried again without
// anybody's doing, says why meanwhile, and is left to that by another reconcile.
// Where that ends, the next reconcile tries again.
func (k *killEnv) startsLater(t *testing.T) {
	built := readJSON(t, filepath.Join(k.template, "state.json"))["artifacts"].(map[string]any)
	image, away := k.path("images", built["image"].(string)), k.path("image.away")
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	fails := func() {
		if said, err := k.try("reconcile"); err == nil || !strings.Contains(said, "acme: start it: failed: ") {
			t.Errorf("reconcile: %v\n%s", err, said)
		}
	}
	for _, policy := range []string{"unless-stopped", "on-failure:1"} {
		for _, args := range [][]string{create("acme"), {"link"}, {"tenant", "set", "acme", "--restart", policy}, {"tenant", "run", "acme", "--no-wait"}} {
			k.do(t, args)
		}
		k.reboot(t, true)
		rename(image, away)
		fails()
		if policy == "unless-stopped" {
			k.waitFor(t, func(s observed) bool { // between two tries, it may be at one
				return s.Phase == "restarting" && strings.Contains(s.Reason, "could not be started: ")
			})
			if said := k.mvm(t, "reconcile"); !strings.Contains(said, "everything is as it should be") {
				t.Errorf("while it is tried again reconcile did: %s", said)
			}
			rename(away, image)
		} else {
			s := k.waitFor(t, func(s observed) bool { return s.State.Phase == "failed" })
			if !strings.Contains(s.Reason, "gave up after 1 restarts in a row; the last one: it could not be started: ") {
				t.Errorf("it is %+v", s)
			}
			rename(away, image)
			if said := k.mvm(t, "reconcile"); !strings.Contains(said, "acme: start it") {
				t.Errorf("reconcile did: %s", said)
			}
		}
		k.waitFor(t, func(s observed) bool { return s.Phase == "running" })
		k.mvm(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
		k.nothingLeft(t)
	}
}

// reboot takes away what a reboot takes away.
func (k *killEnv) reboot(t *testing.T, runs bool) (bystander *exec.Cmd) {
	t.Helper()
	if runs {
		k.do(t, []string{"kill-supervisor"})
		k.waitForEnd(t)
	}
	tap := k.state(t)["net"].(map[string]any)["tap"].(string)
	if out, err := exec.Command("ip", "link", "show", tap).CombinedOutput(); err == nil {
		if out, err := exec.Command("ip", "link", "delete", tap).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	} else if runs {
		t.Fatalf("it ran without a TAP: %v\n%s", err, out)
	}
	volatile, err := filepath.Glob(filepath.Join(k.runDir(t), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range volatile {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	bystander = exec.Command("sleep", "300")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bystander.Process.Kill() })
	state := k.state(t)
	state["boot_id"] = "00000000-0000-0000-0000-000000000000"
	if runs {
		state["supervisor_pid"], state["firecracker_pid"] = bystander.Process.Pid, bystander.Process.Pid
	}
	data, err := json.Marshal(state)
	if err == nil {
		err = os.WriteFile(filepath.Join(k.root, "tenants", "acme", "state.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bystander
}

// runDir is what does not outlive a reboot.
func (k *killEnv) runDir(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(k.root)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(root))
	return filepath.Join("/run/mvm", hex.EncodeToString(sum[:4]))
}

// waitForEnd returns when the kernel has ended all of a killed supervisor's.
func (k *killEnv) waitForEnd(t *testing.T) {
	t.Helper()
	waitUntil(t, func() (bool, string) { return k.phase(t) != "running", "a killed supervisor's tenant still runs" })
}
