package volume

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// data makes a data volume that belongs to some other user, as a VM's does.
func data(t *testing.T, sizeMiB int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volumes", "data.ext4")
	created, err := CreateData(t.Context(), path, sizeMiB, 30001, 30001)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	return path
}

func TestCreateData(t *testing.T) {
	for _, size := range []int{16, 100, 2048, 1 << 20} {
		path := data(t, size)
		checkClean(t, path)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if info.Size() != int64(size)<<20 || info.Mode() != 0o600 || stat.Uid != 30001 || stat.Gid != 30001 {
			t.Errorf("%d MiB: size %d, mode %v, owner %d:%d", size, info.Size(), info.Mode(), stat.Uid, stat.Gid)
		}
		if got := allocated(t, path); got > 4<<20 && got > info.Size()/200 {
			t.Errorf("%d MiB: %d KiB are allocated", size, got>>10)
		}
	}
}

func TestCreateDataKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.ext4")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	created, err := CreateData(t.Context(), path, 16, 0, 0)
	if created || err != nil {
		t.Errorf("created %v, %v", created, err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "precious" {
		t.Errorf("it holds %q, %v", got, err)
	}
}
