package tests

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/auser/mvm/internal/store"
)

// TestKillSetup kills mvm setup --firecracker after every step, the first time
// and where another build of the same release is replaced. What the settings
// name is whole at any time, and the same command finishes the act.
func TestKillSetup(t *testing.T) {
	repo, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	k := &killEnv{env: &env{repo: repo, bin: t.TempDir()}}
	k.goBuild(t, "mvm", "./cmd/mvm", "-tags", "crashpoints")
	k.goBuild(t, "standin", "./tests/standin")
	old, new := setupFrom(t, "old"), setupFrom(t, "new")
	for name, before := range map[string][]string{"fresh": nil, "over another": old} {
		t.Run(name, func(t *testing.T) {
			k.setupRoot(t, before)
			file := filepath.Join(t.TempDir(), "trace")
			if out, err := k.crash(new, "MVM_CRASH_TRACE="+file); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			points := strings.Fields(string(data))
			if len(points) < 3 {
				t.Fatalf("only %v: the act has more steps than that", points)
			}
			for _, point := range points {
				k.setupRoot(t, before)
				if out, err := k.crash(new, "MVM_CRASH_AT="+point); err == nil {
					t.Fatalf("%s: it was not killed:\n%s", point, out)
				}
				k.wantWhole(t, point, before != nil)
				k.mvm(t, new...)
				k.wantWhole(t, point, true)
				if left, err := filepath.Glob(filepath.Join(k.root, "vmm", ".*")); err != nil || len(left) > 0 {
					t.Errorf("%s: left behind: %v, %v", point, left, err)
				}
			}
		})
	}
}

// setupFrom is a setup that installs a release whose programs name their build.
func setupFrom(t *testing.T, build string) []string {
	t.Helper()
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	dir := t.TempDir()
	in := filepath.Join(dir, "release-v1.16.1-"+machine)
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{"firecracker": "Firecracker", "jailer": "Jailer"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s v1.16.1'\necho %s\n", says, build)
		if err := os.WriteFile(filepath.Join(in, name+"-v1.16.1-"+machine), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(dir, "release.tgz")
	if out, err := exec.CommandContext(t.Context(), "tar", "-czf", archive, "-C", dir, filepath.Base(in)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"setup", "--tier", "software", "--firecracker", archive, "--firecracker-sha256", fmt.Sprintf("%x", sha256.Sum256(data))}
}

// setupRoot is a state directory on which before was done, if anything.
func (k *killEnv) setupRoot(t *testing.T, before []string) {
	t.Helper()
	k.root = filepath.Join(t.TempDir(), "root")
	st, err := store.Open(k.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(st.RunDir) })
	settings := fmt.Sprintf("[vmm]\nqemu = %q\n", filepath.Join(k.bin, "standin"))
	if err := os.WriteFile(filepath.Join(k.root, "config.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	if before != nil {
		k.mvm(t, before...)
	}
}

// wantWhole looks at what the settings name: both programs, of one build.
func (k *killEnv) wantWhole(t *testing.T, point string, installed bool) {
	t.Helper()
	var settings struct {
		VMM struct{ Firecracker, Jailer string }
	}
	if _, err := toml.DecodeFile(filepath.Join(k.root, "config.toml"), &settings); err != nil {
		t.Fatalf("%s: %v", point, err)
	}
	if settings.VMM.Firecracker == "" && !installed {
		return
	}
	var builds []string
	for _, program := range []string{settings.VMM.Firecracker, settings.VMM.Jailer} {
		out, err := exec.CommandContext(t.Context(), program, "--version").Output()
		if err != nil {
			t.Errorf("%s: the settings name %q: %v", point, program, err)
		}
		builds = append(builds, strings.Join(strings.Fields(string(out))[2:], " "))
	}
	if builds[0] != builds[1] {
		t.Errorf("%s: the programs are of the builds %v", point, builds)
	}
}
