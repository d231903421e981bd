package limacli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Folders that are volumes are copied in: whole, other than flakes, again when
// they have changed and something starts with them, and not else.
func TestFoldersAreCopied(t *testing.T) {
	w := ready(t)
	src := filepath.Join(w.dir, "src")
	at := func(name string) string { return filepath.Join(src, name) }
	inside := "/var/lib/mvm-lima/folders" + src
	arrived := func(name string) string { return filepath.Join(w.home.Guest("mvm", inside), name) }
	err := os.MkdirAll(at("deep"), 0o750)
	for name, text := range map[string]string{"file": "first", ".gitignore": "file\n", "deep/tool": "#!/bin/sh\n"} {
		if err == nil {
			err = os.WriteFile(at(name), []byte(text), 0o640)
		}
	}
	if err == nil {
		err = os.Symlink("/etc/shadow", at("link"))
	}
	if err != nil {
		t.Fatal(err)
	}
	out, code := w.mvm(t, "", "start", "-v", "64M:/work", "-v", "./src:/src", "-v", "nowhere:/x")
	want := fmt.Sprintf("%q", []string{"start", "-v", "64M:/work", "-v", inside + ":/src", "-v", filepath.Join(w.dir, "nowhere") + ":/x"})
	if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, "copying "+src+" into") {
		t.Fatalf("exit %d: %s", code, out)
	}
	if data, err := os.ReadFile(arrived("file")); err != nil || string(data) != "first" {
		t.Errorf("file holds %q, %v", data, err)
	}
	if info, err := os.Stat(arrived("deep")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("deep: %v, %v", info, err)
	}
	if to, err := os.Readlink(arrived("link")); err != nil || to != "/etc/shadow" {
		t.Errorf("the link leads to %q, %v", to, err)
	}

	if out, code := w.mvm(t, "", "start", "-v", "./src/file:/src"); code != 2 || !strings.Contains(out, at("file")+" is no folder") || !strings.Contains(out, "hint: ") {
		t.Errorf("a file in the place of a folder: exit %d: %s", code, out)
	}

	// It is sent again when it has changed, also where only the VM knows of it.
	spec := fmt.Sprintf(`{"spec": {"volumes": [{"mount": "/src", "folder": %q}, {"mount": "/x", "folder": "/inside/alone"}]}}`, inside)
	status := fmt.Sprintf(`{"tier": "software", "dev": {"there": true, "microvm": %s}}`, spec)
	for name, text := range map[string]string{"status": status, "spec-of-acme": spec, "spec-of-other": "{}"} {
		if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/"+name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"start"}, {"dev", "--flake", "github:a/b"}, {"tenant", "run", "acme"}, {"tenant", "restart", "acme"}, {"tenant", "run", "other", "acme", "--no-wait"}, {"tenant", "set", "acme", "--volume=" + src + ":/src"}} {
		if out, code := w.mvm(t, "", args...); code != 0 || strings.Contains(out, "copying") {
			t.Errorf("%v, and nothing has changed: exit %d: %s", args, code, out)
		}
		text := strings.Join(args, " ")
		if err := os.WriteFile(at("file"), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if out, code := w.mvm(t, "", args...); code != 0 || !strings.Contains(out, "copying "+src) {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
		if data, err := os.ReadFile(arrived("file")); err != nil || string(data) != text {
			t.Errorf("%v: file holds %q, %v", args, data, err)
		}
	}

	// A file of tenants names them from where it lies.
	file := filepath.Join(src, "tenants.yaml")
	if err := os.WriteFile(file, []byte("version: 1\ntenants: {acme: {flake: 'github:a/b', volumes: ['./deep:/deep']}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := w.mvm(t, "", "apply", "-f", file); code != 0 || !strings.Contains(out, "copying "+at("deep")) {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := os.RemoveAll(src); err != nil {
		t.Fatal(err)
	}
	if out, code := w.mvm(t, "", "start"); code != 0 || !strings.Contains(out, src+" is not on this host") {
		t.Errorf("exit %d: %s", code, out)
	}
}
