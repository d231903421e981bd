package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestDirs: a folder appears whole or not at all, and goes only when nobody
// holds it.
func TestDirs(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "images")
	make := func() *Dir {
		d, err := NewDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Discard)
		return d
	}
	listed := func() int {
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	target := filepath.Join(parent, "one")
	first, second := make(), make() // a maker who lives is left alone
	if err := os.WriteFile(filepath.Join(first.Path, "kernel"), []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := first.Publish(target)
	if err != nil || held == nil {
		t.Fatalf("held %v, %v", held, err)
	}
	if late, err := second.Publish(target); late != nil || err != nil {
		t.Errorf("the second to come is held %v, %v", late, err)
	}
	if freed, removed, err := RemoveDir(target, false); removed || freed != 0 || err != nil {
		t.Errorf("while it is held: removed %v, %d bytes, %v", removed, freed, err)
	}
	held.Close()
	if freed, removed, err := RemoveDir(target, true); !removed || freed == 0 || err != nil || listed() != 2 {
		t.Errorf("dry run: removed %v, %d bytes, %v", removed, freed, err)
	}
	if err := SetAside(target); err != nil {
		t.Fatal(err)
	}
	if _, err := HoldDir(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was set aside is held: %v", err)
	}
	second.Discard()
	if err := os.Mkdir(filepath.Join(parent, prefix+"killed"), 0o700); err != nil {
		t.Fatal(err)
	}
	make().Discard()
	if listed() != 0 {
		t.Error("leftovers stay")
	}
}
