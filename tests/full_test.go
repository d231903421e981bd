package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// leftKiB is how much room a full disk still has, so that the acts fail at
// their first write, or at one of those that follow.
var leftKiB = []int64{0, 8, 32}

// TestFullDisk gives every act of the kill test to a state directory on a disk
// without room. It must succeed all the same or say what is missing. When there
// is room again the same command finishes the act, and nothing is lost.
func TestFullDisk(t *testing.T) {
	mount := mountSmallDisk(t)
	k := newStandinEnv(t, "full", "10.53.0.1/24")
	k.buildTemplate(t)
	failed := 0
	for _, c := range killCases {
		for _, kib := range leftKiB {
			t.Run(fmt.Sprintf("%s/%d KiB", c.name, kib), func(t *testing.T) {
				if k.onFullDisk(t, c, mount, kib) != nil {
					failed++
				}
			})
		}
	}
	if failed == 0 {
		t.Error("every act succeeded: the disk was never full")
	}
	t.Run("who only looks", func(t *testing.T) { k.lookOnFullDisk(t, mount) }) // the last: gc takes the image
	t.Logf("%d of %d acts failed for want of room", failed, len(killCases)*len(leftKiB))
}

// lookOnFullDisk holds what only reads to work all the same, and so does what
// makes room; what writes says how to.
func (k *killEnv) lookOnFullDisk(t *testing.T, mount string) {
	k.mvm(t, killCases[0].act...)
	filler := fill(t, mount, 0)
	for _, args := range [][]string{
		{"status"}, {"stop"}, {"tenant", "list"}, {"tenant", "show", "acme"}, {"audit", "--all"}, {"audit", "verify", "--all"},
		{"tenant", "logs", "acme"}, {"net", "show"}, {"export"}, {"retained", "list"}, {"gc", "--dry-run"},
	} {
		k.mvm(t, args...)
	}
	out, err := k.crash([]string{"tenant", "set", "acme", "--cpus", "4"}, "MVM_CRASH_AT=")
	if err == nil || !strings.Contains(out, "hint: make room: mvm gc") {
		t.Errorf("it does not say how to make room: %v\n%s", err, out)
	}
	k.mvm(t, "gc")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	k.mvm(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
}

// mountSmallDisk makes the state directory a file system of its own.
func mountSmallDisk(t *testing.T) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "test", "full")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1g,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("cannot unmount the small disk: %v", err)
		}
	})
	return dir
}

// onFullDisk returns how the act failed while there was no room.
func (k *killEnv) onFullDisk(t *testing.T, c killCase, mount string, kib int64) error {
	before := k.files(t)
	for i, args := range c.prepare {
		k.do(t, args)
		if i == 0 {
			k.writeNote(t)
		}
	}
	hasData := len(c.prepare) > 0
	filler := fill(t, mount, kib)
	out, failed := k.crash(c.act, "MVM_CRASH_AT=")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if failed != nil && c.after != nil {
		c.then = (*killEnv).isOver
	}
	if failed != nil && !strings.Contains(strings.ToLower(out), syscall.ENOSPC.Error()) { // tools write it with a capital
		t.Errorf("it does not say that the disk is full: %v\n%s", failed, out)
	}
	if c.after == nil {
		k.mvm(t, c.act...)
	} else {
		k.mvm(t, c.after...)
	}
	k.finish(t, c, before, hasData)
	return failed
}

// isOver holds for a tenant whose start failed, too: stopped or not, that is
// what there is to know of it.
func (k *killEnv) isOver(t *testing.T) {
	t.Helper()
	if k.phase(t) != "failed" {
		k.isDown(t)
	}
}

// fill takes all room on the disk but so much.
func fill(t *testing.T, mount string, kib int64) (path string) {
	t.Helper()
	path = filepath.Join(mount, "filler")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(mount, &disk); err != nil {
		t.Fatal(err)
	}
	room := int64(disk.Bavail)*disk.Bsize - kib<<10
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, room); err != nil {
		t.Fatalf("cannot fill %s: %v", mount, err)
	}
	return path
}
