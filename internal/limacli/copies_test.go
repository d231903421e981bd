package limacli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Copies of this host's folders and flakes are removed when no tenant names
// them any more, and not before.
func TestCopiesAreRemoved(t *testing.T) {
	w := ready(t)
	must := func(args ...string) string {
		t.Helper()
		out, code := w.mvm(t, "", args...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, out)
		}
		return out
	}
	says := func(file, text string) { // what the mvm inside prints
		t.Helper()
		if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/"+file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(w.home.Guest("mvm", "/var/lib/mvm"), 0o755); err != nil { // the state directory
		t.Fatal(err)
	}
	for _, name := range []string{"src/deep/file", "other/file", "old/file", "flake/flake.nix", "former/flake.nix"} {
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{ }"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	folders := "/var/lib/mvm-lima/folders"
	src, other, old := folders+w.dir+"/src", folders+w.dir+"/other", folders+w.dir+"/old"
	flake, former := filepath.Join(w.dir, "flake"), filepath.Join(w.dir, "former")
	where := map[string]string{"src": src, "src/deep": src + "/deep", "other": other, "old": old, "flake": flake, "former": former}
	wants := func(when string, names ...string) {
		t.Helper()
		for name, path := range where {
			_, err := os.Stat(w.home.Guest("mvm", path))
			if there, want := err == nil, strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" "); there != want {
				t.Errorf("%s: %s is there: %v, want %v", when, name, there, want)
			}
		}
	}
	// The tenant's last run had old, and its spec has other. The dev microVM has src.
	must("start", "--flake", "./former", "-v", "./src:/src", "-v", "./src/deep:/deep", "-v", "./other:/other", "-v", "./old:/old")
	must("sync", "./flake")
	says("status", fmt.Sprintf(`{"tier": "software", "dev": {"there": true, "microvm": {"spec": {"volumes": [{"mount": "/src", "folder": %q}]}}}}`, src))
	says("list", fmt.Sprintf(`[{"tenant_id": "acme", "spec": {"flake_ref": %q, "volumes": [{"mount": "/other", "folder": %q}]}, "state": {"spec": {"volumes": [{"mount": "/old", "folder": %q}]}}}]`, "path:"+flake+"?dir=x", other, old))
	wants("before", "src", "src/deep", "other", "old", "flake", "former")

	for _, flag := range []string{"--dry-run", "--dry-run=true", "--dry-run=1"} {
		if out := must("gc", flag); !strings.Contains(out, "would remove the copy of "+former) || strings.Count(out, "would remove") != 1 {
			t.Errorf("%s: %s", flag, out)
		}
	}
	lock, err := os.OpenFile(filepath.Join(w.configDir(t), "mvm", "lima", "mvm.copies.lock"), os.O_RDWR, 0)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_SH)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := must("gc"); !strings.Contains(out, "another command may use them") {
		t.Errorf("beside another command: %s", out)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "no JSON", `[{"tenant_id": "acme", "error": "its state is damaged"}]`} {
		good, err := os.ReadFile(w.home.Guest("mvm", "/var/lib/list"))
		if err != nil {
			t.Fatal(err)
		}
		says("list", text)
		if out, code := w.mvm(t, "", "gc"); code == 0 || !strings.Contains(out, "cannot tell what") {
			t.Errorf("the tenants are unknown: exit %d: %s", code, out)
		}
		if out := must("tenant", "destroy", "gone", "--yes"); !strings.Contains(out, "stay until mvm gc: cannot tell what") { // it is destroyed all the same
			t.Errorf("destroyed while the tenants are unknown: %s", out)
		}
		says("list", string(good))
	}
	wants("until now", "src", "src/deep", "other", "old", "flake", "former")

	if out := must("gc"); !strings.Contains(out, "removed the copy of "+former) || strings.Count(out, "removed") != 1 {
		t.Errorf("gc: %s", out)
	}
	wants("after gc", "src", "src/deep", "other", "old", "flake")
	// A copy that is gone is sent again when it is wanted.
	if out := must("sync", "./former"); !strings.Contains(out, former+" copied") {
		t.Error(out)
	}
	says("list", "[]")
	must("tenant", "destroy", "acme", "--yes")
	wants("after the tenant's end", "src", "src/deep")
	says("status", `{"tier": "software", "dev": {"there": false}}`)
	must("destroy", "--yes")
	wants("at the end")
	for _, pattern := range []string{folders + "/*", "/var/lib/mvm-lima/sync/*[0-9a-f]", w.dir + "/.mvm-sync*"} {
		if left, err := filepath.Glob(w.home.Guest("mvm", pattern)); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// What the tenants of another state directory use stays, too.
func TestCopiesOfOtherRoots(t *testing.T) {
	w := ready(t)
	src := filepath.Join(w.dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, code := w.mvm(t, "", "tenant", "create", "acme", "--root", "./state", "--flake", "github:a/b", "-v", "./src:/src"); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
	}
	root := filepath.Join(w.dir, "state")
	noted, err := os.ReadFile(w.home.Guest("mvm", "/var/lib/mvm-lima/roots"))
	if err != nil || string(noted) != root+"\n" {
		t.Errorf("noted: %q, %v", noted, err)
	}
	if err := os.MkdirAll(w.home.Guest("mvm", root), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := fmt.Sprintf(`[{"tenant_id": "acme", "spec": {"volumes": [{"mount": "/src", "folder": %q}]}}]`, "/var/lib/mvm-lima/folders"+src)
	if err := os.WriteFile(w.home.Guest("mvm", root+"/list"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	copied := w.home.Guest("mvm", "/var/lib/mvm-lima/folders"+src)
	if out, code := w.mvm(t, "", "gc"); code != 0 || strings.Contains(out, "removed") {
		t.Errorf("exit %d: %s", code, out)
	}
	if _, err := os.Stat(copied); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(w.home.Guest("mvm", root)); err != nil { // and its tenants with it
		t.Fatal(err)
	}
	if out, code := w.mvm(t, "", "gc"); code != 0 || !strings.Contains(out, "removed the copy of "+src) {
		t.Errorf("exit %d: %s", code, out)
	}
	if _, err := os.Stat(copied); err == nil {
		t.Error("it is still there")
	}
}
