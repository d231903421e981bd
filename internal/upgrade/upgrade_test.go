package upgrade

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// server offers one release, which a test may spoil.
type server struct {
	files  map[string][]byte
	source Source
}

func newServer(t *testing.T, version string) *server {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	program := []byte("the new program")
	sum := sha256.Sum256(program)
	file := File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(program))}
	manifest, err := json.Marshal(Release{Version: version, Files: map[string]File{
		"mvm-linux-amd64": file, "mvm-linux-arm64": file, "mvm-darwin-arm64": file,
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{files: map[string][]byte{
		"/release.json":     manifest,
		"/release.json.sig": []byte(base64.StdEncoding.EncodeToString(ed25519.Sign(private, manifest)) + "\n"),
		"/mvm-linux-amd64":  program,
		"/mvm-linux-arm64":  program,
		"/mvm-darwin-arm64": program,
	}}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := s.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(data)
	}))
	t.Cleanup(web.Close)
	s.source = Source{URL: web.URL, Key: base64.StdEncoding.EncodeToString(public), Client: web.Client()}
	return s
}

// program is an installed one.
func program(t *testing.T) (path string, targets []Target) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "mvm")
	if err := os.WriteFile(path, []byte("the old program"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, []Target{{"mvm-linux-amd64", path}}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v is beside the program", err, entries)
	}
	return string(data)
}

func TestUpgrade(t *testing.T) {
	s := newServer(t, "v1.3.0")
	path, targets := program(t)
	done, err := s.source.Upgrade(t.Context(), "v1.2.9", targets, true)
	if err != nil || !done.Newer || done.Changed || content(t, path) != "the old program" {
		t.Fatalf("check: %+v, %v", done, err)
	}
	done, err = s.source.Upgrade(t.Context(), "v1.2.9", targets, false)
	if err != nil || !done.Changed || content(t, path) != "the new program" {
		t.Fatalf("%+v, %v", done, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestNothingOlder(t *testing.T) {
	s := newServer(t, "v1.3.0")
	for _, have := range []string{"v1.3.0", "1.3.0", "v1.10.0", "v2.0.0"} {
		path, targets := program(t)
		done, err := s.source.Upgrade(t.Context(), have, targets, false)
		if err != nil || done.Newer || content(t, path) != "the old program" {
			t.Errorf("%s: %+v, %v", have, done, err)
		}
	}
}

func TestSpoiltReleasesAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*server){
		"another program":  func(s *server) { s.files["/mvm-linux-amd64"] = []byte("the bad program") },
		"a longer program": func(s *server) { s.files["/mvm-linux-amd64"] = append(s.files["/mvm-linux-amd64"], '!') },
		"a cut program":    func(s *server) { s.files["/mvm-linux-amd64"] = s.files["/mvm-linux-amd64"][:3] },
		"another manifest": func(s *server) { s.files["/release.json"] = append(s.files["/release.json"], ' ') },
		"no signature":     func(s *server) { delete(s.files, "/release.json.sig") },
		"a bad signature":  func(s *server) { s.files["/release.json.sig"] = []byte("AAAA") },
		"another key":      func(s *server) { s.source.Key = newServer(t, "v1.0.0").source.Key },
		"no key":           func(s *server) { s.source.Key = "" },
		"a missing file":   func(s *server) { delete(s.files, "/mvm-linux-amd64") },
	} {
		s := newServer(t, "v1.3.0")
		spoil(s)
		path, targets := program(t)
		done, err := s.source.Upgrade(t.Context(), "v1.2.0", targets, false)
		if err == nil || done.Changed || content(t, path) != "the old program" {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
	}
}

func TestOfflineSaysSo(t *testing.T) {
	s := newServer(t, "v1.3.0")
	s.source.URL = "http://127.0.0.1:1"
	path, targets := program(t)
	_, err := s.source.Upgrade(t.Context(), "v1.2.0", targets, false)
	if !errors.Is(err, ErrOffline) || hint(err) == "" || content(t, path) != "the old program" {
		t.Error(err)
	}
}

func TestBuildsThatAreNoRelease(t *testing.T) {
	s := newServer(t, "v1.3.0")
	_, targets := program(t)
	if _, err := s.source.Upgrade(t.Context(), "dev", targets, false); !errors.Is(err, ErrNoRelease) {
		t.Error(err)
	}
	if _, err := Self(t.Context(), s.source.URL, true); !errors.Is(err, ErrNoRelease) {
		t.Error(err)
	}
}
