package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// scribble overwrites a part of an image.
func scribble(t testing.TB, path string, off int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, off); err != nil {
		t.Fatal(err)
	}
}

// markErrors sets what the kernel sets when it meets an error.
func markErrors(t testing.TB, path string) {
	t.Helper()
	command(t, "debugfs", "-w", "-R", "set_super_value state 3", path)
}

// damage makes an image that e2fsck does not repair on its own.
func damage(t testing.TB, path string) {
	t.Helper()
	command(t, "debugfs", "-w", "-R", "clri <2>", path)
	markErrors(t, path)
}

func TestPrepareDataRepairsWhatIsSafe(t *testing.T) {
	path := data(t, 64)
	markErrors(t, path)
	r, err := PrepareData(t.Context(), path)
	if err != nil || !r.Repaired || r.Replayed || r.Note == "" {
		t.Errorf("%+v, %v", r, err)
	}
	checkClean(t, path)
}

func TestForeignAndDamaged(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("empty"), nil)
	write(t, at("text"), []byte(strings.Repeat("hello\n", 10000)))
	write(t, at("ext2"), make([]byte, 16*mib))
	command(t, "mkfs.ext2", "-q", at("ext2"))
	if err := os.Mkdir(at("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(data(t, 16), at("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	cut := data(t, 64)
	if err := os.Truncate(cut, 32*mib); err != nil {
		t.Fatal(err)
	}
	broken := data(t, 64)
	damage(t, broken)
	for path, want := range map[string]error{
		at("missing"): fs.ErrNotExist, at("empty"): ErrForeign, at("text"): ErrForeign, at("ext2"): ErrForeign,
		at("link"): ErrForeign, at("fifo"): ErrForeign, at("folder"): syscall.EISDIR,
		cut: ErrDamaged, broken: ErrDamaged,
	} {
		for op, run := range map[string]func() error{
			"prepare": func() error { _, err := PrepareData(t.Context(), path); return err },
			"check":   func() error { _, err := Check(t.Context(), path); return err },
			"grow":    func() error { return Grow(t.Context(), path, 128) },
			"trim":    func() error { _, err := Trim(t.Context(), path); return err },
		} {
			if err := run(); !errors.Is(err, want) {
				t.Errorf("%s %s: %v, want %v", op, filepath.Base(path), err, want)
			}
		}
	}
	if got := read(t, at("text")); len(got) != 60000 {
		t.Errorf("the text has %d bytes now", len(got))
	}
}

func TestCheckAndRepair(t *testing.T) {
	path := crashed(t, 64)
	if r, err := Check(t.Context(), path); err != nil || !r.Replayed {
		t.Errorf("crashed: %+v, %v", r, err)
	}
	checkClean(t, path)
	damage(t, path)
	before := read(t, path)
	if _, err := Check(t.Context(), path); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
	if string(before) != string(read(t, path)) {
		t.Error("the check changed the volume")
	}
	said, err := Repair(t.Context(), path)
	if err != nil || said == "" {
		t.Errorf("repair: %q, %v", said, err)
	}
	checkClean(t, path)
	checkOwner(t, path)
	if _, err := Check(t.Context(), path); err != nil {
		t.Error(err)
	}
}

// A damaged superblock is repaired from one of its copies.
func TestRepairSuperblock(t *testing.T) {
	path := data(t, 256)
	scribble(t, path, 1024, make([]byte, 1024))
	if _, err := PrepareData(t.Context(), path); !errors.Is(err, ErrForeign) {
		t.Errorf("prepare: %v", err)
	}
	if _, err := Repair(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	checkClean(t, path)
}
