package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// vmUser is who owns data volumes here: nobody that the host knows.
const vmUser = 30001

// data makes a data volume.
func data(t testing.TB, sizeMiB int) string {
	t.Helper()
	return dataIn(t, t.TempDir(), sizeMiB)
}

func dataIn(t testing.TB, dir string, sizeMiB int) string {
	t.Helper()
	path := filepath.Join(dir, "volumes", "data.ext4")
	created, err := CreateData(t.Context(), path, sizeMiB, vmUser, vmUser)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	return path
}

// crashed makes a data volume as the kill of a running VM leaves it: mounted,
// with a fsynced file "kept", folders that are in the journal alone, and writes
// under way.
func crashed(t testing.TB, sizeMiB int) string {
	t.Helper()
	live := data(t, sizeMiB)
	dir, unmount := mounted(t, live)
	for i := range 100 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("kept-%d", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(dir, "kept"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("fsynced"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		write(t, filepath.Join(dir, fmt.Sprintf("lost-%d/x", i)), []byte("not synced"))
	}
	path := filepath.Join(t.TempDir(), "data.ext4")
	command(t, "cp", "--sparse=always", "--preserve", live, path)
	unmount()
	if info, err := Inspect(path); err != nil || !info.Dirty {
		t.Fatalf("the copy is no crashed volume: %+v, %v", info, err)
	}
	return path
}

func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}

// checkOwner makes sure that an operation kept owner and mode.
func checkOwner(t testing.TB, path string) {
	t.Helper()
	if s := stat(t, path); s.Uid != vmUser || s.Gid != vmUser || s.Mode&0o7777 != 0o600 {
		t.Errorf("%s belongs to %d:%d with mode %o", path, s.Uid, s.Gid, s.Mode&0o7777)
	}
}

func TestCreateData(t *testing.T) {
	for _, size := range []int{16, 100, 2048, 1 << 20} {
		path := data(t, size)
		checkClean(t, path)
		checkOwner(t, path)
		info, err := Inspect(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != int64(size)*mib || info.FileSystem != info.Size || info.Dirty || info.Errors || info.Used > info.Size/2 {
			t.Errorf("%d MiB: %+v", size, info)
		}
		if info.Allocated > 4*mib && info.Allocated > info.Size/200 {
			t.Errorf("%d MiB: %d KiB are allocated", size, info.Allocated>>10)
		}
	}
}

// A guest's kernel finds the options that the volume was made with, and has
// nothing to initialise.
func TestCreatedDataInUse(t *testing.T) {
	path := data(t, 512)
	before := stat(t, path).Blocks
	header := command(t, "dumpe2fs", "-h", path)
	for _, want := range []string{"Reserved block count:     0\n", "Errors behavior:          Remount read-only\n", "volume name:   data\n"} {
		if !strings.Contains(header, want) {
			t.Errorf("dumpe2fs lacks %q", want)
		}
	}
	dir, unmount := mounted(t, path)
	write(t, filepath.Join(dir, "x"), []byte("y"))
	unmount()
	if grown := (stat(t, path).Blocks - before) * 512; grown > mib {
		t.Errorf("a first mount took %d KiB", grown>>10)
	}
	checkClean(t, path)
}

func TestCreateDataKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.ext4")
	write(t, path, []byte("precious"))
	created, err := CreateData(t.Context(), path, 16, 0, 0)
	if created || err != nil {
		t.Errorf("created %v, %v", created, err)
	}
	if got := read(t, path); string(got) != "precious" {
		t.Errorf("it holds %q", got)
	}
	// Nor is a link followed, wherever it leads.
	link := filepath.Join(t.TempDir(), "data.ext4")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	if created, err := CreateData(t.Context(), link, 16, 0, 0); created || err != nil {
		t.Errorf("created %v, %v", created, err)
	}
}

func TestPrepareData(t *testing.T) {
	path := data(t, 64)
	if r, err := PrepareData(t.Context(), path); err != nil || r != (Report{}) {
		t.Errorf("clean: %+v, %v", r, err)
	}
	path = crashed(t, 64)
	r, err := PrepareData(t.Context(), path)
	if err != nil || !r.Replayed || r.Repaired || r.Note == "" {
		t.Errorf("crashed: %+v, %v", r, err)
	}
	checkClean(t, path)
	checkOwner(t, path)
	if got := content(t, path, "/kept"); string(got) != "fsynced" {
		t.Errorf("the fsynced file holds %q", got)
	}
	if r, err := PrepareData(t.Context(), path); err != nil || r != (Report{}) {
		t.Errorf("a second time: %+v, %v", r, err)
	}
}

// What killed calls have left is gone at the next start; what another call is
// making is not.
func TestPrepareDataRemovesDrafts(t *testing.T) {
	path := data(t, 16)
	dir := filepath.Dir(path)
	write(t, filepath.Join(dir, "killed.ext4.new"), nil)
	if err := os.Link(path, path+".new"); err != nil { // killed once it stood in its place
		t.Fatal(err)
	}
	d, err := newDraft(filepath.Join(dir, "other.ext4"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := PrepareData(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != "data.ext4" || entries[1].Name() != "other.ext4.new" {
		t.Errorf("entries = %v, %v", entries, err)
	}
}

func TestGrow(t *testing.T) {
	path := crashed(t, 64)
	for _, size := range []int{200, 200, 5000, 1 << 20} {
		if err := Grow(t.Context(), path, size); err != nil {
			t.Fatal(err)
		}
		checkClean(t, path)
		checkOwner(t, path)
		info, err := Inspect(path)
		if err != nil || info.Size != int64(size)*mib || info.FileSystem != info.Size || info.Allocated > info.Size/8 {
			t.Errorf("%d MiB: %+v, %v", size, info, err)
		}
		if got := content(t, path, "/kept"); string(got) != "fsynced" {
			t.Errorf("the file holds %q", got)
		}
	}
	if err := Grow(t.Context(), path, 100); !errors.Is(err, ErrShrink) {
		t.Errorf("shrink: %v", err)
	}
}

func TestTrim(t *testing.T) {
	path := data(t, 256)
	dir, unmount := mounted(t, path)
	write(t, filepath.Join(dir, "big"), []byte(strings.Repeat("x", 100*mib)))
	write(t, filepath.Join(dir, "small"), []byte("kept"))
	command(t, "sync", "-f", dir)
	if err := os.Remove(filepath.Join(dir, "big")); err != nil {
		t.Fatal(err)
	}
	unmount()
	freed, err := Trim(t.Context(), path)
	if err != nil || freed < 90*mib {
		t.Errorf("freed %d MiB, %v", freed/mib, err)
	}
	checkClean(t, path)
	checkOwner(t, path)
	if got := content(t, path, "/small"); string(got) != "kept" {
		t.Errorf("the file holds %q", got)
	}
}

// Every operation leaves a volume alone that something holds, be it another
// process or only the descriptor that it handed on.
func TestInUse(t *testing.T) {
	path := data(t, 16)
	f, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	holder, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	vmm, err := os.StartProcess("/bin/cat", []string{"cat"}, &os.ProcAttr{Files: []*os.File{holder, os.Stderr, os.Stderr, f}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	snapshots := t.TempDir()
	operations := map[string]func() error{
		"lock":    func() error { _, err := Lock(path); return err },
		"prepare": func() error { _, err := PrepareData(ctx, path); return err },
		"check":   func() error { _, err := Check(ctx, path); return err },
		"repair":  func() error { _, err := Repair(ctx, path); return err },
		"grow":    func() error { return Grow(ctx, path, 32) },
		"trim":    func() error { _, err := Trim(ctx, path); return err },
		"export":  func() error { return Export(ctx, path, &strings.Builder{}) },
		"import": func() error {
			_, err := Import(ctx, path, strings.NewReader(""), ImportOptions{Replace: true})
			return err
		},
		"snapshot": func() error { _, err := Snapshot(ctx, path, snapshots, "x", false); return err },
		"rollback": func() error { _, err := Rollback(ctx, path, snapshots, "x"); return err },
	}
	var wg sync.WaitGroup
	for name, run := range operations {
		wg.Go(func() {
			if err := run(); !errors.Is(err, ErrInUse) {
				t.Errorf("%s: err = %v", name, err)
			}
		})
	}
	wg.Wait()
	if _, err := Inspect(path); err != nil {
		t.Errorf("inspect: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := vmm.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := PrepareData(ctx, path); err != nil {
		t.Errorf("after its end: %v", err)
	}
}

// What waits for a volume gets the one that stands there then, not the one
// that was replaced meanwhile.
func TestLockFollowsAReplacement(t *testing.T) {
	path := crashed(t, 16)
	old, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := Check(context.WithoutCancel(t.Context()), path)
		waiting <- err
	}()
	if err := os.Rename(data(t, 16), path); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

func TestDiskFull(t *testing.T) {
	dir := memory(t, "size=256k")
	path := filepath.Join(dir, "data.ext4")
	if created, err := CreateData(t.Context(), path, 2048, 0, 0); created || err == nil {
		t.Errorf("created %v, %v", created, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("entries = %v, %v", entries, err)
	}

	// Enough for the volume, too little for a second one.
	dir = memory(t, "size=8m")
	path = dataIn(t, dir, 64)
	inside, unmount := mounted(t, path)
	write(t, filepath.Join(inside, "kept"), []byte(strings.Repeat("x", 4*mib)))
	unmount()
	before := read(t, path)
	for name, run := range map[string]func() error{
		"grow":     func() error { return Grow(t.Context(), path, 128) },
		"repair":   func() error { _, err := Repair(t.Context(), path); return err },
		"snapshot": func() error { _, err := Snapshot(t.Context(), path, dir, "x", false); return err },
	} {
		if err := run(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		checkClean(t, path)
	}
	if string(before) != string(read(t, path)) {
		t.Error("the volume has changed")
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := crashed(t, 16)
	for name, run := range map[string]func() error{
		"create":  func() error { _, err := CreateData(ctx, path+"2", 16, 0, 0); return err },
		"prepare": func() error { _, err := PrepareData(ctx, path); return err },
		"grow":    func() error { return Grow(ctx, path, 128) },
		"export":  func() error { return Export(ctx, path, &strings.Builder{}) },
	} {
		if err := run(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// The programs that read what a guest wrote do so as the VM's user, without
// privileges.
func TestToolsRunAsTheOwner(t *testing.T) {
	path := data(t, 16)
	f, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bin := t.TempDir()
	write(t, filepath.Join(bin, "spy"), []byte("#!/bin/sh\ngrep -E '^(Uid|Gid|Groups|CapEff|CapPrm):' /proc/self/status\nulimit -c\nulimit -v\ntest -w /proc/self/fd/3 && echo writable\n"))
	for _, p := range []string{bin, filepath.Dir(bin), filepath.Join(bin, "spy")} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	out, _, err := tool{name: "spy", image: f, asOwner: true}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(out)
	want := "Uid: 30001 30001 30001 30001 Gid: 30001 30001 30001 30001 Groups: CapPrm: 0000000000000000 CapEff: 0000000000000000 0 1048580 writable"
	if got := strings.Join(fields, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
