package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a mount namespace of their own: what they mount
// is seen by nobody else and goes with them.
func TestMain(m *testing.M) {
	if op := os.Getenv("MVM_VOLUME_TEST_KILL"); op != "" {
		os.Exit(runToBeKilled(op, os.Getenv("MVM_VOLUME_TEST_DIR")))
	}
	const inside = "MVM_VOLUME_TEST_INSIDE"
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: unix.CLONE_NEWNS, // makes all mounts private
		Pdeathsig:    syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "cannot run the tests in a mount namespace (root is needed):", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// memory is a folder on a tmpfs of its own.
func memory(t testing.TB, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// command runs a program that must succeed and returns what it printed.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// checkClean has e2fsck look for anything wrong, and at the folder for
// anything left behind.
func checkClean(t testing.TB, image string) {
	t.Helper()
	command(t, "e2fsck", "-f", "-n", image)
	for _, pattern := range []string{"*.new", "*.files"} {
		left, err := filepath.Glob(filepath.Join(filepath.Dir(image), pattern))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// cmpSorted compares slices of strings without regard to their order.
func cmpSorted() cmp.Option {
	return cmp.Transformer("sorted", func(s []string) []string { return slices.Sorted(slices.Values(s)) })
}

// mounted mounts an image as a guest does; the tests may use the host's
// kernel for it, which the package never does.
func mounted(t testing.TB, image string) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	command(t, "mount", "-o", "loop", image, dir)
	unmount = sync.OnceFunc(func() { command(t, "umount", dir) })
	t.Cleanup(unmount)
	return dir, unmount
}

// fileSystem is a folder on a file system of its own, of some MiB.
func fileSystem(t testing.TB, sizeMiB int, mkfs ...string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, int64(sizeMiB)*mib); err != nil {
		t.Fatal(err)
	}
	command(t, mkfs[0], append(mkfs[1:], disk)...)
	dir, _ := mounted(t, disk)
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// PrepareData is Acquire without the lock.
func PrepareData(ctx context.Context, path string) (Report, error) {
	f, r, err := Acquire(ctx, path)
	if err != nil {
		return Report{}, err
	}
	return r, f.Close()
}
