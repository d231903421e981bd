package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != want {
		t.Errorf("%s holds %q, %v; want %q", path, data, err, want)
	}
}

func TestWriteReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"old", "new"} {
		if err := Write(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		wantContent(t, path, text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}

func TestAKilledWritersFileGoesWithTheNextWrite(t *testing.T) {
	dir := t.TempDir()
	others := filepath.Join(dir, ".tmp-g-0")
	// Three wrote f side by side, and two were killed.
	for _, path := range []string{filepath.Join(dir, ".tmp-f-1"), filepath.Join(dir, ".tmp-f-2"), others} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := Leftovers(dir); err != nil || len(left) != 1 || left[0] != others {
		t.Errorf("left %v, %v; want only %s", left, err, others)
	}
	if err := os.Symlink("x", filepath.Join(dir, ".tmp-link")); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 1 || got[0] != "f" {
		t.Errorf("left: %v", got)
	}
}

func TestALivingWritersFileStays(t *testing.T) {
	dir := t.TempDir()
	f, err := create(dir, "f")
	if err != nil {
		t.Fatal(err)
	}
	other, err := create(dir, "f")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := Write(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.Name()); err != nil {
		t.Error("the file of a living writer was swept")
	}
	f.Close() // it dies
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of a dead writer is still there: %v", err)
	}
	if _, err := os.Stat(other.Name()); err != nil {
		t.Error("the file of a living writer was swept")
	}
}

// TestWritersAtOnce: others also sweep meanwhile, and take no living writer's file.
func TestWritersAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, []byte("writer --"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if err := Sweep(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 16 {
		wg.Go(func() {
			for range 10 {
				if err := Write(path, fmt.Appendf(nil, "writer %02d", i), 0o600); err != nil {
					t.Error(err)
				}
				if data, err := os.ReadFile(path); err != nil || len(data) != len("writer 00") {
					t.Errorf("read %q, %v", data, err)
				}
			}
		})
	}
	wg.Wait()
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}

func TestSymlink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	for _, target := range []string{"a", "a", "b"} {
		if err := Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != target {
			t.Errorf("%q, %v, want %q", got, err, target)
		}
	}
}

// TestReplaceHere: a name without a folder is prepared where it is to be, not
// among the system's temporary files, which may be on another file system.
func TestReplaceHere(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	t.Chdir(t.TempDir())
	if err := Write("here", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile("here"); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
}
