//go:build linux

package build_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

// TestContainersOfABuild counts what a build starts. A store from the local
// image needs no preparation; one that is root's gets it in a container of its
// own, whatever the image says of itself, and only once.
func TestContainersOfABuild(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			local := enginetest.Builder(t, engine)
			for _, test := range []struct {
				name, image string
				cold        int
			}{
				{"local", local, 1},
				{"root's", rootsImage(t, engine, local, ""), 2},
				{"root's, and says otherwise", rootsImage(t, engine, local, "30000"), 3},
			} {
				t.Run(test.name, func(t *testing.T) {
					req := newRequest(t, engine, writeGuest(t, probing("$bb id -u > $out")))
					req.Image = test.image
					runs := countRuns(t, engine)
					if mustBuild(t, req); runs() != test.cold {
						t.Errorf("a first build started %d containers, want %d", runs(), test.cold)
					}
					req.Force = true
					if mustBuild(t, req); runs() != test.cold+1 {
						t.Errorf("a second build started %d containers, want 1", runs()-test.cold)
					}
				})
			}
		})
	}
}

// rootsImage makes an image like the public one from the local one: its store
// belongs to root. label is what it says of its store.
func rootsImage(t *testing.T, engine build.Engine, local, label string) string {
	t.Helper()
	do := func(args ...string) string {
		out, err := exec.Command(engine.Path, args...).Output()
		if err != nil {
			t.Fatalf("%s %v: %v", engine.Path, args, err)
		}
		return strings.TrimSpace(string(out))
	}
	name := fmt.Sprintf("mvm-test-roots-%d", os.Getpid())
	do("run", "--name="+name, "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--user=0:0", "--entrypoint=chown", local, "-R", "0:0", "/nix")
	id := do("commit", "--change=LABEL mvm.store="+label, name)
	do("rm", name)
	t.Cleanup(func() { do("rmi", "--force", id) })
	if !strings.Contains(id, ":") {
		id = "sha256:" + id // podman
	}
	return id
}

// countRuns puts a client in the engine's place that counts containers.
func countRuns(t *testing.T, engine build.Engine) func() int {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\necho \"$1\" >> %s\nexec %s \"$@\"\n", log, engine.Path)
	if err := os.WriteFile(filepath.Join(dir, engine.Name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		runs := strings.Fields(readFile(t, log))
		return len(slices.DeleteFunc(runs, func(verb string) bool { return verb != "run" }))
	}
}
