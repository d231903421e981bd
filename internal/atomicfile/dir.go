package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/flock"
)

// Dir is a folder in the making. It is locked while its maker lives, so that
// the leftovers of killed ones can be told apart and removed.
type Dir struct {
	Path string
	lock *os.File
}

// NewDir makes a folder in parent, which is made, too, where it is missing.
// What killed makers left there is removed.
func NewDir(parent string) (*Dir, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	if err := sweepDirs(parent); err != nil {
		return nil, err
	}
	for {
		path, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return nil, err
		}
		lock, err := holdDir(path, unix.LOCK_EX)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody swept it before it was locked
		}
		if err == nil {
			err = os.Chmod(path, 0o755)
		}
		if err != nil {
			os.Remove(path)
			return nil, err
		}
		return &Dir{Path: path, lock: lock}, nil
	}
}

// Publish moves the folder to target and returns it held for use. What is
// there already wins: then the result is nil.
func (d *Dir) Publish(target string) (held *os.File, err error) {
	err = os.Rename(d.Path, target)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil, nil
	}
	if err == nil {
		err = SyncDir(filepath.Dir(target))
	}
	if err == nil {
		err = flock.Lock(d.lock, unix.LOCK_SH)
	}
	if err != nil {
		return nil, err
	}
	held, d.lock = d.lock, nil
	return held, nil
}

// Discard removes what was not published and gives up the lock.
func (d *Dir) Discard() {
	// A failure leaves a folder that the next NewDir sweeps.
	_ = os.RemoveAll(d.Path)
	if d.lock != nil {
		d.lock.Close()
	}
}

// HoldDir keeps RemoveDir from the folder at path until the file is closed. It
// fails with fs.ErrNotExist where the folder was removed meanwhile.
func HoldDir(path string) (*os.File, error) { return holdDir(path, unix.LOCK_SH) }

// holdDir takes LOCK_SH for whoever uses the folder, LOCK_EX for its maker or
// remover.
func holdDir(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err = flock.Lock(f, how); err == nil {
		err = stillAt(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func stillAt(f *os.File, path string) error {
	held, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(held, now) {
		return fmt.Errorf("%s was replaced: %w", path, fs.ErrNotExist)
	}
	return nil
}

// RemoveDir removes a folder that nobody holds, and says how many bytes of the
// disk that frees. It is moved out of the way first, so that nobody ever sees
// half of it. One that is held is left alone: removed is false.
func RemoveDir(path string, dryRun bool) (freed int64, removed bool, err error) {
	lock, err := holdDir(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer lock.Close()
	if freed, err = DiskUsage(path); err != nil || dryRun {
		return freed, err == nil, err
	}
	if _, left := Leftover(filepath.Base(path)); !left {
		gone := filepath.Join(filepath.Dir(path), prefix+filepath.Base(path))
		if err := os.Rename(path, gone); err != nil {
			return 0, false, err
		}
		path = gone
	}
	err = os.RemoveAll(path)
	return freed, err == nil, err
}

// sweepDirs removes the folders that killed makers and removers left in parent.
func sweepDirs(parent string) error {
	names, err := temporary(parent)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, _, err := RemoveDir(filepath.Join(parent, name), false); err != nil {
			return err
		}
	}
	return nil
}

// SetAside makes room at path: the folder that was there becomes a leftover,
// which the next sweep removes.
func SetAside(path string) error {
	aside, err := os.MkdirTemp(filepath.Dir(path), prefix)
	if err != nil {
		return err
	}
	return ignore(os.Rename(path, filepath.Join(aside, "aside")), fs.ErrNotExist)
}

// Leftover says whether a name is that of something in the making or of
// something half removed, and what else there is to the name.
func Leftover(name string) (rest string, is bool) { return strings.CutPrefix(name, prefix) }

// DiskUsage is how many bytes of the disk removing path would free.
func DiskUsage(path string) (int64, error) {
	var total int64
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512 // stat(2): always units of 512
		}
		return nil
	})
	return total, err
}
