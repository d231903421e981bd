package ssh

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func TestEnsureMakesWhatTheToolsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ssh")
	if err := Ensure(dir, "acme"); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{
		"": fs.ModeDir | 0o700, ClientKey: 0o600, ClientKey + ".pub": 0o600,
		HostKey: 0o600, HostKey + ".pub": 0o600, KnownHosts: 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
		}
	}
	files := readAll(t, dir)
	for _, key := range []string{ClientKey, HostKey} {
		out, err := exec.Command("ssh-keygen", "-y", "-f", filepath.Join(dir, key)).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		if public := strings.TrimSpace(string(out)); strings.TrimSpace(files[key+".pub"]) != public {
			t.Errorf("%s.pub is %q, ssh-keygen says %q", key, files[key+".pub"], public)
		}
	}
	if want := "acme " + files[HostKey+".pub"]; files[KnownHosts] != want {
		t.Errorf("known_hosts is %q, want %q", files[KnownHosts], want)
	}
	if err := Ensure(dir, "acme"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, readAll(t, dir)); diff != "" {
		t.Errorf("a second call changed (-before +after):\n%s", diff)
	}
}

// However much of the set a killed call left, the next one completes it and
// keeps the private keys that were there.
func TestEnsureCompletesAnyPart(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, "acme"); err != nil {
		t.Fatal(err)
	}
	full := readAll(t, dir)
	names := []string{ClientKey, ClientKey + ".pub", HostKey, HostKey + ".pub", KnownHosts}
	for part := range 1 << len(names) {
		dir := t.TempDir()
		want := maps.Clone(full)
		for i, name := range names {
			if part&(1<<i) == 0 {
				delete(want, name)
				name = ".tmp-" + name + "-1" // as a call killed while writing leaves it
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(full[name]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := Ensure(dir, "acme"); err != nil {
			t.Fatalf("part %05b: %v", part, err)
		}
		got := readAll(t, dir)
		for _, key := range []string{ClientKey, HostKey} {
			if had, ok := want[key]; ok && got[key] != had {
				t.Errorf("part %05b: %s was replaced", part, key)
			}
			signer, err := readKey(filepath.Join(dir, key))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got[key+".pub"], publicLine(signer.PublicKey(), "")[:60]) {
				t.Errorf("part %05b: %s.pub is not of %s", part, key, key)
			}
		}
		if got[KnownHosts] != "acme "+got[HostKey+".pub"] {
			t.Errorf("part %05b: known_hosts pins another key", part)
		}
		for name := range got {
			if strings.HasPrefix(name, ".tmp-") {
				t.Errorf("part %05b: %s was left", part, name)
			}
		}
	}
}

func TestEnsureRefusesWhatIsNoKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ClientKey)
	if err := os.WriteFile(path, []byte("not a key, but precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Ensure(dir, "acme")
	if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "precious") {
		t.Errorf("err = %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "not a key, but precious" {
		t.Errorf("the file was changed: %q, %v", data, err)
	}
}

func TestGuestFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := GuestFiles(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without keys: %v", err)
	}
	if err := Ensure(dir, "acme"); err != nil {
		t.Fatal(err)
	}
	files, err := GuestFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	on := readAll(t, dir)
	want := []GuestFile{
		{"authorized_keys", []byte(on[ClientKey+".pub"])},
		{"ssh_host_ed25519_key", []byte(on[HostKey])},
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
