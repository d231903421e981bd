package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/atomicfile"
)

const tempPrefix = ".tmp-"

// tempDir is a folder in the making. It is locked while its maker lives, so
// that the leftovers of killed ones can be told apart and removed.
type tempDir struct {
	path string
	lock *os.File
}

// newTempDir makes a folder in parent, which is made, too, where it is missing.
func newTempDir(parent string) (*tempDir, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	if _, err := sweepTemp(parent); err != nil {
		return nil, err
	}
	for {
		path, err := os.MkdirTemp(parent, tempPrefix)
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
		return &tempDir{path: path, lock: lock}, nil
	}
}

// publish moves the folder to target and returns it held for use. What is
// there already wins: then the result is nil.
func (t *tempDir) publish(target string) (held *os.File, err error) {
	err = os.Rename(t.path, target)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil, nil
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(target))
	}
	if err == nil {
		err = flock(t.lock, unix.LOCK_SH)
	}
	if err != nil {
		return nil, err
	}
	held, t.lock = t.lock, nil
	return held, nil
}

// discard removes what was not published and gives up the lock.
func (t *tempDir) discard() {
	// A failure leaves a folder that the next newTempDir sweeps.
	_ = os.RemoveAll(t.path)
	if t.lock != nil {
		t.lock.Close()
	}
}

// sweepTemp removes what killed makers left in parent and says how many bytes
// that were.
func sweepTemp(parent string) (int64, error) {
	names, err := filepath.Glob(filepath.Join(globQuote(parent), tempPrefix+"*"))
	if err != nil {
		return 0, err
	}
	var freed int64
	for _, path := range names {
		n, err := removeUnused(path)
		if err != nil {
			return freed, err
		}
		freed += n
	}
	return freed, nil
}

func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// holdDir locks the folder at path: LOCK_SH by whoever uses it, LOCK_EX by its
// maker or remover. It fails with fs.ErrNotExist where the folder was removed
// meanwhile.
func holdDir(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err = flock(f, how); err == nil {
		err = stillAt(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// flock retries what a signal interrupted.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
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

// removeUnused removes a folder that nobody holds and returns its size on
// disk. One that is held is left alone and counts nothing.
func removeUnused(path string) (int64, error) {
	lock, err := holdDir(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	size, err := diskUsage(path)
	if err != nil {
		return 0, err
	}
	return size, os.RemoveAll(path)
}

// diskUsage is what removing path would free.
func diskUsage(path string) (int64, error) {
	var total int64
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}

// readBounded reads a regular file of at most max bytes that somebody else,
// who is not trusted, has written.
func readBounded(path string, max int64) ([]byte, error) {
	f, err := openRegularAt(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), max)
	}
	return data, nil
}

// openRegularAt opens a regular file without following links or waiting for
// pipes.
func openRegularAt(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", filepath.Base(path))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
