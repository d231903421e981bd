package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/flock"
)

// Lock opens the image at path and locks it against every other user of this
// package. The lock lasts until the file and all descriptors that were
// inherited from it are closed, so a VMM that is given the file keeps it even
// if the process that called Lock is killed. The error wraps ErrInUse where
// something else holds the image.
func Lock(path string) (*os.File, error) {
	for {
		f, err := openImage(path)
		if err != nil {
			return nil, err
		}
		if err := lockNow(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Another image may have taken the place of the one that was opened.
		same, err := standsAt(f, path)
		if same {
			return f, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

func standsAt(f *os.File, path string) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(opened, now), nil
}

// lockPatience is how long an image may stay locked by the tools of a killed
// process, which end with it, but not in the same instant.
const lockPatience = 2 * time.Second

// lockSoon is Lock with a little patience.
func lockSoon(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		f, err := Lock(path)
		if !errors.Is(err, ErrInUse) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func lockNow(f *os.File) error {
	err := flock.Lock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: %w", f.Name(), ErrInUse)
	}
	if err != nil {
		return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

// openImage opens a regular file for reading and writing.
func openImage(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: %w", path, ErrForeign)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: %w", path, ErrForeign)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func statOf(f *os.File) (unix.Stat_t, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return stat, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stat, nil
}

// draft is a file that is being made beside the place where it will stand. Its
// name is always the same for that place, so that a killed call leaves nothing
// that the next one does not take away.
type draft struct {
	*os.File
	path string
}

const draftSuffix = ".new"

// removeDrafts removes what killed calls have left in dir.
func removeDrafts(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), draftSuffix) {
			continue
		}
		if err := removeDraft(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeDraft removes the draft at path unless it is still being made, and so
// locked. One that was placed already, and is another name of what stands
// there, goes in any case.
func removeDraft(path string) (err error) {
	f, err := openImage(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stat, err := statOf(f)
	if err != nil {
		return err
	}
	if err := lockNow(f); err != nil && stat.Nlink < 2 {
		if errors.Is(err, ErrInUse) {
			return nil
		}
		return err
	}
	return os.Remove(path)
}

// newDraft starts the file for path, with mode 0600 and locked. The caller
// defers discard and ends with one of the commit methods.
func newDraft(path string) (*draft, error) {
	temp := path + draftSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockNow(f); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(temp))
	}
	return &draft{f, path}, nil
}

// discard closes the draft and removes what was not committed.
func (d *draft) discard(errp *error) {
	err := d.Close()
	if removeErr := os.Remove(d.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	*errp = errors.Join(*errp, err)
}

// commit puts the draft in its place, over what is there, once it is on the
// disk.
func (d *draft) commit() error { return d.place(os.Rename) }

// commitNew is commit where nothing is in that place; else it fails with
// fs.ErrExist.
func (d *draft) commitNew() error { return d.place(os.Link) }

func (d *draft) place(move func(from, to string) error) error {
	if err := d.Sync(); err != nil {
		return err
	}
	crash.Point("volume/synced")
	if err := move(d.Name(), d.path); err != nil {
		return err
	}
	crash.Point("volume/placed")
	return atomicfile.SyncDir(filepath.Dir(d.path))
}
