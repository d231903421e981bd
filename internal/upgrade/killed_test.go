package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// upgrading has this test binary upgrade an installation and do nothing else.
const upgrading = "MVM_TEST_UPGRADE"

// installation is what the child is told.
type installation struct {
	URL, Key, Version string
	Targets           []Target
}

func TestMain(m *testing.M) {
	if text := os.Getenv(upgrading); text != "" {
		var i installation
		if err := json.Unmarshal([]byte(text), &i); err != nil {
			panic(err)
		}
		if _, err := (Source{URL: i.URL, Key: i.Key, Client: http.DefaultClient}).Upgrade(context.Background(), i.Version, i.Targets, false); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// macInstallation is one of a Mac, whose program is in dir.
func macInstallation(t *testing.T) (dir string, targets []Target) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"mvm", "mvm-linux-amd64", "mvm-linux-arm64"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("the old program"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	targets, err := Targets(filepath.Join(dir, "mvm"), "darwin", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	return dir, targets
}

func TestTargetsEndWithTheProgram(t *testing.T) {
	dir, targets := macInstallation(t)
	if len(targets) != 3 || targets[2] != (Target{"mvm-darwin-arm64", filepath.Join(dir, "mvm")}) {
		t.Errorf("%v", targets)
	}
	// The program that is a Linux build itself is named once.
	targets, err := Targets(filepath.Join(dir, "mvm-linux-amd64"), "linux", "amd64")
	if err != nil || len(targets) != 2 || targets[1] != (Target{"mvm-linux-amd64", filepath.Join(dir, "mvm-linux-amd64")}) {
		t.Errorf("%v, %v", targets, err)
	}
}

// Killed after any of its steps, an upgrade is completed by the next one: the
// program is new only when all beside it is.
func TestKilledUpgradeIsCompleted(t *testing.T) {
	child := filepath.Join(t.TempDir(), "upgrade.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "crashpoints", "-o", child, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := newServer(t, "v1.3.0")
	for _, at := range []string{"mvm-linux-amd64", "mvm-linux-arm64", "mvm-darwin-arm64"} {
		dir, targets := macInstallation(t)
		text, err := json.Marshal(installation{s.source.URL, s.source.Key, "v1.2.0", targets})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(child)
		cmd.Env = append(os.Environ(), upgrading+"="+string(text), "MVM_CRASH_AT=upgrade/"+at)
		if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 137 {
			t.Fatalf("it was not killed at %s: %v: %s", at, err, out)
		}
		read := func(name string) string {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		if read("mvm-linux-amd64") != "the new program" {
			t.Errorf("%s: the first file is still %s", at, read("mvm-linux-amd64"))
		}
		if last := at == targets[2].Name; last != (read("mvm") == "the new program") {
			t.Errorf("%s: the program is %s", at, read("mvm"))
		}
		// The next upgrade is the program's that is there now.
		have := map[string]string{"the old program": "v1.2.0", "the new program": "v1.3.0"}[read("mvm")]
		if _, err := s.source.Upgrade(t.Context(), have, targets, false); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(targets) {
			t.Errorf("%s: %v is left, %v", at, entries, err)
		}
		for _, e := range entries {
			if read(e.Name()) != "the new program" {
				t.Errorf("%s: %s is %s", at, e.Name(), read(e.Name()))
			}
		}
	}
}

func TestOneUpgradeAtATime(t *testing.T) {
	s := newServer(t, "v1.3.0")
	path, targets := program(t)
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.source.Upgrade(t.Context(), "v1.2.0", targets, false); !errors.Is(err, ErrBusy) || content(t, path) != "the old program" {
		t.Error(err)
	}
	unlock()
	if _, err := s.source.Upgrade(t.Context(), "v1.2.0", targets, false); err != nil || content(t, path) != "the new program" {
		t.Error(err)
	}
}
