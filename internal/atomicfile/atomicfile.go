// Package atomicfile replaces files, and makes folders, in one step: after a
// crash at any moment there is either the old content or the new one, and it is
// on the disk.
//
// It owns the temporary files and folders that this takes, also those that
// killed writers leave behind. What is written, and under which lock, is the callers' business.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/flock"
)

// prefix marks temporary files. One that nobody holds a lock on is a killed
// writer's.
const prefix = ".tmp-"

// Write replaces path with data: a temporary file in the same folder, fsync,
// rename, fsync of the folder. Several processes may write the same path; one
// of them is the last. The temporary files of writers of this path that were
// killed are removed.
func Write(path string, data []byte, mode fs.FileMode) error {
	err := Replace(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	return nil
}

// Replace is Write for what write tells, which may be more than fits memory.
// An error of write's is handed on as it is.
func Replace(path string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	dir, base := filepath.Dir(path), filepath.Base(path) // never "", which stands for the system's folder of temporary files
	f, err := create(dir, base)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignore(os.Remove(f.Name()), fs.ErrNotExist))
		}
		err = errors.Join(err, f.Close()) // which also unlocks
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	crash.Point("write/" + base)
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// create makes the temporary file, locked. Those for one path are numbered, so
// that it finds what killed writers left without reading the folder, which may
// hold tens of thousands of files.
func create(dir, base string) (*os.File, error) {
	var mine *os.File
	for n := 0; ; n++ {
		path := filepath.Join(dir, fmt.Sprintf("%s%s-%d", prefix, base, n))
		var err error
		if mine == nil {
			mine, err = createAt(path)
		} else if err = removeLeft(path); errors.Is(err, fs.ErrNotExist) {
			return mine, nil
		}
		if err != nil && !errors.Is(err, errHeld) {
			if mine != nil {
				err = errors.Join(err, os.Remove(mine.Name()), mine.Close())
			}
			return nil, err
		}
	}
}

// createAt makes it at path, in place of what a killed writer left there.
func createAt(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			if err := ignore(removeLeft(path), fs.ErrNotExist); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		err = flock.Lock(f, unix.LOCK_EX)
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(path), f.Close())
		}
		if st.Nlink > 0 {
			return f, nil
		}
		f.Close() // somebody swept it before it was locked
	}
}

// Symlink makes path a symbolic link to target, replacing what is there in one
// step. Unlike Write it must not run twice at once for the same path.
func Symlink(target, path string) error {
	if have, err := os.Readlink(path); err == nil && have == target {
		return nil
	}
	dir, base := filepath.Split(path)
	tmp := filepath.Join(dir, prefix+base)
	err := ignore(os.Remove(tmp), fs.ErrNotExist)
	if err == nil {
		err = os.Symlink(target, tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot link %s: %w", path, err)
	}
	return nil
}

// SyncDir makes renames and removals in dir survive a crash.
func SyncDir(dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Leftovers lists what killed writers left in dir.
func Leftovers(dir string) ([]string, error) {
	var left []string
	err := eachLeftover(dir, func(path string) error {
		left = append(left, path)
		return nil
	})
	return left, err
}

// Sweep removes what killed writers left in dir. Whoever is writing there is
// not disturbed.
func Sweep(dir string) error { return eachLeftover(dir, remove) }

// removeLeft removes the temporary file at path if it is a killed writer's. It
// is errHeld where it is not, and fs.ErrNotExist where there is none.
func removeLeft(path string) error { return unlessHeld(path, remove) }

func remove(path string) error {
	if err := ignore(os.Remove(path), fs.ErrNotExist); err != nil {
		return fmt.Errorf("cannot remove a leftover: %w", err)
	}
	return nil
}

// eachLeftover calls do for each temporary file in dir that no living writer
// holds; while it does, none can take it.
func eachLeftover(dir string, do func(path string) error) error {
	if dir == "" {
		dir = "."
	}
	names, err := temporary(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unlessHeld(filepath.Join(dir, name), do)
		if err = ignore(ignore(err, errHeld), fs.ErrNotExist); err != nil {
			return err
		}
	}
	return nil
}

// temporary is for large folders: what it does not look for costs little.
func temporary(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	slices.Sort(names)
	return names, err
}

// errHeld is of a file that a living writer holds, or that is no writer's.
var errHeld = errors.New("in use")

func unlessHeld(path string, do func(path string) error) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode().Type() == fs.ModeSymlink:
		return do(path)
	case !info.Mode().IsRegular():
		return errHeld
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock.Lock(f, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return errHeld
	} else if err != nil {
		return err
	}
	// Its writer may have ended meanwhile, and another one be at the path.
	locked, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(path); err != nil {
		return err
	} else if !os.SameFile(locked, now) {
		return errHeld
	}
	return do(path)
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

// plain leaves out the name of the temporary file, which nobody asked for.
func plain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && strings.HasPrefix(filepath.Base(path.Path), prefix) {
		return path.Err
	}
	return err
}
