package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/diskspace"
)

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestAGuestCannotFillTheDisk unpacks what a guest sends without end: a file, and
// files. Room is left, for all others that write to that disk.
func TestAGuestCannotFillTheDisk(t *testing.T) {
	for name, send := range map[string]func(w *tar.Writer) error{
		"one file": func(w *tar.Writer) error {
			if err := w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1 << 40}); err != nil {
				return err
			}
			_, err := io.Copy(w, zeros{})
			return err
		},
		"many files": func(w *tar.Writer) (err error) {
			err = w.WriteHeader(&tar.Header{Name: "x/", Typeflag: tar.TypeDir, Mode: 0o755})
			for n := 0; err == nil; n++ {
				err = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("x/%d", n), Typeflag: tar.TypeReg, Mode: 0o644})
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("small", dir, "tmpfs", 0, "size=32m,nr_inodes=100000"); err != nil {
				t.Fatal("a small disk takes root: ", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			r, w := io.Pipe()
			go func() { w.CloseWithError(send(tar.NewWriter(w))) }()
			err := Unpack(r, dir, "x")
			r.CloseWithError(io.ErrClosedPipe)
			if !errors.Is(err, diskspace.ErrFull) {
				t.Errorf("err = %v", err)
			}
			var disk unix.Statfs_t
			if err := unix.Statfs(dir, &disk); err != nil {
				t.Fatal(err)
			}
			if disk.Bavail < disk.Blocks/25 || disk.Ffree < disk.Files/200 {
				t.Errorf("%d of %d blocks and %d of %d inodes are left", disk.Bavail, disk.Blocks, disk.Ffree, disk.Files)
			}
		})
	}
}
