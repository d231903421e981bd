// Package archtest holds the rules of the house that no compiler checks.
package archtest

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/auser/mvm/"

// layers lists the packages from the top down: a package imports only from
// lines below its own.
var layers = [][]string{
	{"cmd/mvm"},
	{"internal/cli", "internal/limacli"},
	{"internal/metrics"},
	{"internal/stats"},
	{"internal/doctor"},
	{"internal/devvm", "internal/lima", "internal/upgrade", "internal/bootstrap"},
	{"internal/lifecycle"},
	{"internal/supervisor"},
	// The rooms that know nothing of one another. Packages inside one room
	// may import each other.
	{"internal/build", "internal/network", "internal/volume", "internal/vmm", "internal/ssh", "internal/cgroup", "internal/flakecheck"},
	{"internal/fcconfig", "internal/audit", "internal/source"},
	{"internal/store"},
	{"internal/config", "internal/fleet", "internal/archive", "internal/userfile"},
	{"internal/tenant"},
	{"internal/run", "internal/undo", "internal/proc", "internal/buildinfo", "internal/atomicfile", "internal/logfile", "internal/diskspace"},
	{"internal/crash", "internal/fault", "internal/flock", "internal/goldenfile", "internal/tmuxtest"},
	{"internal/await"},
}

// noStore are the rooms that take and return plain values: they know neither
// the state directory nor the host's settings.
var noStore = []string{"internal/build", "internal/network", "internal/volume", "internal/vmm", "internal/ssh", "internal/cgroup", "internal/fcconfig", "internal/source"}

// exempt are helpers for tests, which may reach anywhere.
func exempt(pkg string) bool {
	return strings.HasPrefix(pkg, "tests") || strings.HasPrefix(pkg, "internal/archtest") || strings.HasPrefix(pkg, "scripts") || strings.Contains(pkg, "enginetest") || strings.Contains(pkg, "vmmtest")
}

// room is the line and the name of the room that pkg is in.
func room(pkg string) (line int, name string) {
	for i, names := range layers {
		for _, n := range names {
			if pkg == n || strings.HasPrefix(pkg, n+"/") {
				return i, n
			}
		}
	}
	return -1, ""
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if exempt(from) {
			continue
		}
		line, name := room(from)
		if line < 0 {
			t.Errorf("%s is in no layer: give it a place in this test", from)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			toLine, toName := room(to)
			if toName != name && toLine <= line {
				t.Errorf("%s imports %s, which is not below it", from, to)
			}
			if slices.Contains(noStore, name) && (toName == "internal/store" || toName == "internal/config") {
				t.Errorf("%s imports %s: it takes and returns plain values", from, to)
			}
		}
	}
}

func TestOnlyMainExits(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "grep", "-l", "-E", `\bos\.Exit\(`, "--", "internal/*.go").Output()
	if err != nil && len(out) > 0 {
		t.Fatal(err)
	}
	for file := range strings.Lines(string(out)) {
		if file = strings.TrimSpace(file); !strings.HasSuffix(file, "_test.go") && !strings.Contains(file, "test/") && !strings.Contains(file, "archtest") {
			t.Errorf("%s calls os.Exit: only main does", file)
		}
	}
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
