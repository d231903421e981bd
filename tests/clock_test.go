package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/store"
)

// TestClockJump makes everything that is written down look as after the host's
// clock was set far back, or far ahead: all times lie in the future, or long
// ago. Nothing waits for it, no age is negative, and nothing is done too early.
func TestClockJump(t *testing.T) {
	k := newStandinEnv(t, "clock", "10.57.0.1/24")
	flake := newToy(t)
	flake.edit(t)
	for name, jump := range map[string]time.Duration{"set back": 10 * year, "set ahead": -10 * year} {
		t.Run(name, func(t *testing.T) {
			k.soon(t, "tenant", "create", "acme", "--flake", flake.dir, "--profile", "minimal", "--data-size", "16", "--mem", "64", "--restart", "on-failure")
			k.soon(t, "tenant", "build", "acme")
			k.soon(t, "tenant", "run", "acme", "--no-wait")
			k.jump(t, jump)
			k.readAll(t)
			if said := k.soon(t, "reconcile"); said != "everything is as it should be\n" {
				t.Errorf("reconcile did %s", said)
			}
			k.isBusy(t, jump)

			// Its restart waits as long as ever.
			k.killVMM(t)
			k.waitFor(t, func(s observed) bool { return s.Phase == "running" && s.State.Restarts == 1 })
			k.jump(t, jump)
			for _, act := range [][]string{{"pause"}, {"resume"}, {"set", "--cpus", "2"}, {"stop", "--force"}, {"build"}, {"run", "--no-wait"}} {
				k.soon(t, append([]string{"tenant", act[0], "acme"}, act[1:]...)...)
				k.jump(t, jump)
			}
			k.want(t, "running")

			// What runs when the host goes down is brought back.
			k.do(t, []string{"kill-supervisor"})
			k.waitForEnd(t)
			k.jump(t, jump)
			k.readAll(t)
			k.soon(t, "reconcile")
			k.want(t, "running")
			k.soon(t, "gc")
			k.soon(t, "tenant", "destroy", "acme", "--yes")
			k.jump(t, jump)
			k.soon(t, "tenant", "create", "acme", "--flake", flake.dir, "--profile", "minimal", "--data-size", "16", "--adopt-volumes")
			k.soon(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
			k.nothingLeft(t)
		})
	}
}

const year = 365 * 24 * time.Hour

// soon is mvm, which must not hang.
func (k *killEnv) soon(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(k.bin, "mvm"), append([]string{"--root", k.root}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("mvm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// negative is a time that is less than nothing.
var negative = regexp.MustCompile(`(?m)(^|[\s(:])-[0-9.]+ ?(ms|s|min|h|day)|(seconds|_age)[^ ]*:? -[0-9]`)

// readAll gives the verbs that only look.
func (k *killEnv) readAll(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"tenant", "list"}, {"tenant", "list", "--json"}, {"tenant", "show", "acme"}, {"tenant", "show", "acme", "--json"},
		{"tenant", "stats"}, {"tenant", "stats", "--json"}, {"status"}, {"status", "--json"}, {"metrics"},
		{"tenant", "logs", "acme", "--since", "1h"}, {"tenant", "logs", "acme", "--source", "supervisor", "--since", "1h"},
		{"tenant", "volume", "show", "acme"}, {"tenant", "verify", "acme"}, {"tenant", "secrets", "list", "acme"},
		{"audit", "acme"}, {"audit", "verify", "acme"}, {"retained", "list"}, {"net", "show"}, {"export"},
		{"reconcile", "--dry-run"}, {"gc", "--dry-run"},
	} {
		if said := k.soon(t, args...); negative.MatchString(said) {
			t.Errorf("mvm %s speaks of %q:\n%s", strings.Join(args, " "), negative.FindString(said), said)
		}
	}
}

// isBusy has a command meet a lock that seems to be held since then.
func (k *killEnv) isBusy(t *testing.T, jump time.Duration) {
	t.Helper()
	st, err := store.Open(k.root)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := st.LockTenant(t.Context(), "acme", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	k.jump(t, jump)
	began := time.Now()
	said, err := k.try("tenant", "set", "acme", "--cpus", "3", "--wait", "1s")
	if err == nil || !strings.Contains(said, "tenant acme is busy") || negative.MatchString(said) {
		t.Errorf("beside another command: %v\n%s", err, said)
	}
	if waited := time.Since(began); waited < time.Second {
		t.Errorf("it gave up after %s, and was told to wait 1s", waited)
	}
}

// jump moves all times that are written down, in files and of files.
func (k *killEnv) jump(t *testing.T, by time.Duration) {
	t.Helper()
	for _, dir := range []string{filepath.Join(k.root, "tenants"), filepath.Join(k.root, "locks"), filepath.Join(k.root, "network"), filepath.Join(k.root, "retained"), filepath.Join(k.root, "src"), k.runDir(t)} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&fs.ModeSymlink != 0 {
				return err
			}
			if filepath.Ext(path) == ".json" && filepath.Base(path) != "manifest.json" { // which is recorded by its hash
				if err := jumpFile(path, by); err != nil {
					return err
				}
			} else if dir == filepath.Join(k.root, "locks") && !d.IsDir() {
				if err := jumpLock(path, by); err != nil {
					return err
				}
			}
			then := time.Now().Add(by)
			return os.Chtimes(path, then, then)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

var stamp = regexp.MustCompile(`"(\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d))"`)

// jumped is data with its times set relative to now.
func jumped(data []byte, by time.Duration) []byte {
	then, _ := json.Marshal(time.Now().UTC().Add(by))
	return stamp.ReplaceAllLiteral(data, then)
}

func jumpFile(path string, by time.Duration) error {
	data, err := os.ReadFile(path)
	if err != nil || bytes.Equal(data, jumped(data, by)) {
		return err
	}
	return atomicfile.Write(path, jumped(data, by), 0o600)
}

// jumpLock writes into the very file, which others may have locked.
func jumpLock(path string, by time.Duration) error {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return err
	}
	return os.WriteFile(path, jumped(data, by), 0o600)
}
