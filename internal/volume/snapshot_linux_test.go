package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// setFile changes what a volume holds in the file /state.
func setFile(t testing.TB, volume, value string) {
	t.Helper()
	dir, unmount := mounted(t, volume)
	write(t, filepath.Join(dir, "state"), []byte(value))
	unmount()
}

func TestSnapshotAndRollback(t *testing.T) {
	for name, c := range map[string]struct {
		dir    func() string
		shared bool
	}{
		"tmpfs": {func() string { return memory(t, "size=256m") }, false},
		"xfs":   {func() string { return fileSystem(t, 400, "mkfs.xfs", "-q") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := dataIn(t, c.dir(), 64)
			dir := filepath.Join(filepath.Dir(path), "snapshots")
			if list, err := Snapshots(dir); err != nil || list != nil {
				t.Errorf("none yet: %v, %v", list, err)
			}
			for _, state := range []string{"one", "two"} {
				setFile(t, path, state)
				if kept, err := Kept(path, dir, state); err != nil || kept {
					t.Errorf("before it is made: kept %v, %v", kept, err)
				}
				shared, err := Snapshot(t.Context(), path, dir, state, false)
				if err != nil || shared != c.shared {
					t.Fatalf("shared %v, %v", shared, err)
				}
				if kept, err := Kept(path, dir, state); err != nil || !kept {
					t.Errorf("kept %v, %v", kept, err)
				}
			}
			if kept, err := Kept(path, dir, "one"); err != nil || kept {
				t.Errorf("of a former state: kept %v, %v", kept, err)
			}
			setFile(t, path, "three")
			if _, err := Snapshot(t.Context(), path, dir, "one", false); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a taken name: %v", err)
			}
			write(t, filepath.Join(dir, "killed.ext4.new"), nil)
			list, err := Snapshots(dir)
			if err != nil || len(list) != 2 || list[0].Name != "one" || list[1].Name != "two" {
				t.Fatalf("list: %+v, %v", list, err)
			}
			if s := list[0]; s.Size != 64*mib || s.Allocated == 0 || s.Allocated > 16*mib || s.Time.IsZero() {
				t.Errorf("%+v", s)
			}
			for _, state := range []string{"one", "two", "one"} {
				shared, err := Rollback(t.Context(), path, dir, state)
				if err != nil || shared != c.shared {
					t.Fatalf("shared %v, %v", shared, err)
				}
				checkClean(t, path)
				checkOwner(t, path)
				if got := content(t, path, "/state"); string(got) != state {
					t.Errorf("rolled back to %s, it holds %q", state, got)
				}
			}
			if err := Grow(t.Context(), path, 96); err != nil {
				t.Fatal(err)
			}
			if _, err := Rollback(t.Context(), path, dir, "two"); err != nil {
				t.Fatal(err)
			}
			checkClean(t, path)
			checkOwner(t, path)
			if info, err := Inspect(path); err != nil || info.Size != 96*mib || info.FileSystem != info.Size {
				t.Errorf("rolled back from a larger one: %+v, %v", info, err)
			}
			if _, err := Rollback(t.Context(), path, dir, "none"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("no such snapshot: %v", err)
			}
			for range 2 {
				if err := RemoveSnapshot(dir, "one"); err != nil {
					t.Error(err)
				}
			}
			if list, err := Snapshots(dir); err != nil || len(list) != 1 {
				t.Errorf("list: %+v, %v", list, err)
			}
		})
	}
}

// A VM may run while its volume is snapshotted, if that takes an instant.
func TestLiveSnapshot(t *testing.T) {
	for name, c := range map[string]struct {
		dir  string
		want error
	}{
		"tmpfs": {memory(t, "size=64m"), ErrNoReflink},
		"xfs":   {fileSystem(t, 400, "mkfs.xfs", "-q"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := dataIn(t, c.dir, 64)
			vm, err := Lock(path)
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			guest, unmount := mounted(t, path)
			defer unmount()
			f, err := os.Create(filepath.Join(guest, "kept"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString("fsynced")
			if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(c.dir, "snapshots")
			_, err = Snapshot(t.Context(), path, dir, "live", true)
			if !errors.Is(err, c.want) {
				t.Fatalf("err = %v, want %v", err, c.want)
			}
			if c.want != nil {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("left: %v, %v", left, err)
				}
				return
			}
			taken := filepath.Join(dir, "live.ext4")
			if r, err := PrepareData(t.Context(), taken); err != nil || !r.Replayed {
				t.Errorf("prepare: %+v, %v", r, err)
			}
			checkClean(t, taken)
			if got := content(t, taken, "/kept"); string(got) != "fsynced" {
				t.Errorf("the fsynced file holds %q", got)
			}
		})
	}
}

func TestSnapshotNames(t *testing.T) {
	path := data(t, 16)
	dir := t.TempDir()
	for _, name := range []string{"", ".", "..", "../x", "a/b", "A", "-a", "a b", "a\x00", "a.", string(make([]byte, 100))} {
		if _, err := Snapshot(t.Context(), path, dir, name, false); err == nil {
			t.Errorf("%q was taken", name)
		}
		if _, err := Rollback(t.Context(), path, dir, name); err == nil {
			t.Errorf("%q was rolled back to", name)
		}
		if err := RemoveSnapshot(dir, name); err == nil {
			t.Errorf("%q was removed", name)
		}
	}
}

// Growing and repairing on a file system that shares blocks need no room for
// a copy.
func TestGrowWithoutRoomForACopy(t *testing.T) {
	path := dataIn(t, fileSystem(t, 320, "mkfs.xfs", "-q"), 200)
	dir, unmount := mounted(t, path)
	write(t, filepath.Join(dir, "big"), make([]byte, 160*mib))
	unmount()
	if err := Grow(t.Context(), path, 1024); err != nil {
		t.Fatal(err)
	}
	checkClean(t, path)
	checkOwner(t, path)
}
