package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPackStaysInTheFolder packs a folder whose owner puts links in the place of
// its files and folders all the while: nothing outside of it goes into a guest.
func TestPackStaysInTheFolder(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	secret := []byte("what is outside of the folder")
	aside := t.TempDir() // on the same file system
	for path, text := range map[string][]byte{
		filepath.Join(outside, "f"): secret,
		filepath.Join(dir, "f"):     []byte("a file"),
		filepath.Join(dir, "d/f"):   []byte("in a folder"),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"f": filepath.Join(outside, "f"), "d": outside} {
		if err := os.Symlink(target, filepath.Join(aside, name)); err != nil {
			t.Fatal(err)
		}
	}
	done, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-done:
				stopped <- nil
				return
			default:
			}
			for _, name := range []string{"f", "d"} {
				if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(aside, name), unix.AT_FDCWD, filepath.Join(dir, name), unix.RENAME_EXCHANGE); err != nil {
					stopped <- err
					return
				}
			}
		}
	}()
	for range 3_000 {
		var stream bytes.Buffer
		err := Pack(&stream, dir, "x") // that it may refuse
		if bytes.Contains(stream.Bytes(), secret) {
			t.Errorf("what is outside was packed (%v)", err)
			break
		}
	}
	close(done)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}
