package volume

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnwritableDisk gives every operation a disk without room, and one that is
// read-only. It says so, nothing is lost, and it works once the disk does.
func TestUnwritableDisk(t *testing.T) {
	operations := maps.Clone(killable)
	maps.Copy(operations, map[string]func(context.Context, string) error{
		"check": func(ctx context.Context, dir string) error {
			_, err := Check(ctx, filepath.Join(dir, "data.ext4"))
			return err
		},
		"export": func(ctx context.Context, dir string) error {
			return Export(ctx, filepath.Join(dir, "data.ext4"), io.Discard)
		},
		"extend": func(_ context.Context, dir string) error {
			return Extend(filepath.Join(dir, "data.ext4"), 128*mib)
		},
	})
	other := data(t, 100)
	template := map[string]string{"data.ext4": crashed(t, 64), "other.ext4": other, "stream": filepath.Join(t.TempDir(), "stream")}
	write(t, template["stream"], exported(t, other))
	template["folder"] = t.TempDir()
	write(t, filepath.Join(template["folder"], "state"), []byte("new"))
	for name, hinder := range map[string]struct {
		apply func(t *testing.T, dir string) (undo func())
		said  error
		spare map[string]bool // what may succeed all the same
	}{
		"full":      {fillDisk, unix.ENOSPC, map[string]bool{"export": true, "extend": true}},
		"read-only": {readOnly, unix.EROFS, nil},
	} {
		for op, run := range operations {
			t.Run(name+"/"+op, func(t *testing.T) {
				dir := memory(t, "size=256m")
				for file, from := range template {
					command(t, "cp", "-Rp", "--sparse=always", from, filepath.Join(dir, file))
				}
				before, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				undo := hinder.apply(t, dir)
				err = run(t.Context(), dir)
				if errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeign) {
					t.Errorf("it is not the volume's fault: %v", err)
				}
				undo()
				if err == nil != hinder.spare[op] || err != nil && !strings.Contains(strings.ToLower(err.Error()), hinder.said.Error()) {
					t.Errorf("err = %v, want %v", err, hinder.said)
				}
				after, err := os.ReadDir(dir)
				if err != nil || !hinder.spare[op] && len(after) != len(before) {
					t.Errorf("left: %v, %v", after, err)
				}
				if err := run(t.Context(), dir); err != nil {
					t.Errorf("when the disk can be written: %v", err)
				}
				image := filepath.Join(dir, "data.ext4")
				if _, err := PrepareData(t.Context(), image); err != nil {
					t.Fatal(err)
				}
				checkClean(t, image)
				checkOwner(t, image)
				if op == "import" || op == "rollback" {
					return // it is another's content now
				}
				if got := content(t, image, "/kept"); string(got) != "fsynced" {
					t.Errorf("the fsynced file holds %q", got)
				}
			})
		}
	}
}

// fillDisk takes all room on the tmpfs at dir.
func fillDisk(t *testing.T, dir string) (undo func()) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	f, err := os.OpenFile(filler, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(disk.Bavail)*disk.Bsize); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

func readOnly(t *testing.T, dir string) (undo func()) {
	t.Helper()
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	return func() { remount(0) }
}
