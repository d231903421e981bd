package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/auser/mvm/internal/crash"
)

// WriteFile replaces path with data so that after a crash at any moment there
// is either the old content or the new one: a temporary file in the same
// folder, fsync, rename, fsync of the folder.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", path, err)
		}
	}()
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	crash.Point("write/" + filepath.Base(path))
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return SyncDir(dir)
}

// tempPrefix marks files that a killed write may leave behind.
const tempPrefix = ".tmp-"

// TempPattern matches such files (filepath.Glob).
const TempPattern = tempPrefix + "*"

// WriteJSON writes v, indented for people, readable by the owner only.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", path, err)
	}
	return WriteFile(path, append(data, '\n'), 0o600)
}

// SyncDir makes renames and removals in dir survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SweepTemp removes what killed writes left in dir. The caller holds the lock
// under which files in dir are written.
func SweepTemp(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, TempPattern))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove a leftover: %w", err)
		}
	}
	return nil
}

// SweepHostTemp removes what killed writes of shared files left. The caller
// holds the host lock.
func (s *Store) SweepHostTemp() error {
	return errors.Join(SweepTemp(s.Root), SweepTemp(filepath.Dir(s.LeasesFile())))
}

// Symlink makes path a symbolic link to target, replacing what is there in one
// step.
func Symlink(target, path string) error {
	if have, err := os.Readlink(path); err == nil && have == target {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot link %s: %w", path, err)
	}
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("cannot link %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("cannot link %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SHA256 is the hexadecimal digest of data.
func SHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
