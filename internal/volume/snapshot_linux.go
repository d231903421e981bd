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
)

// snapshotSuffix ends the file name of a snapshot.
const snapshotSuffix = ".ext4"

// IsSnapshotName tells whether name is one to 63 lower-case letters, digits and
// inner dots, dashes or underscores.
func IsSnapshotName(name string) bool {
	const alphanumeric, inner = "abcdefghijklmnopqrstuvwxyz0123456789", "._-"
	return name != "" && len(name) <= 63 && strings.Trim(name, alphanumeric+inner) == "" &&
		!strings.ContainsAny(name[:1]+name[len(name)-1:], inner)
}

// SnapshotInfo is one snapshot of a data volume.
type SnapshotInfo struct {
	Name      string
	Time      time.Time
	Size      int64 // bytes of the volume
	Allocated int64 // bytes on the host's disk, those shared with the volume included
}

// Snapshot keeps the present state of the data volume at path under name in
// the folder dir, which must be on the same file system to be cheap: shared
// tells whether snapshot and volume share their blocks, or whether all was
// copied. Nothing may use the volume, except that with live a VM may run: the
// snapshot is then as after a power cut, and made only where it is cheap.
// Where the name is taken, the error wraps fs.ErrExist.
func Snapshot(ctx context.Context, path, dir, name string, live bool) (shared bool, err error) {
	if shared, err = snapshot(ctx, path, dir, name, live); err != nil {
		return false, fmt.Errorf("cannot make the snapshot %s of the data volume: %w", quotePath(name), err)
	}
	return shared, nil
}

// ErrNoReflink is inside the error of a live snapshot where the host's file
// system can't share blocks between files.
var ErrNoReflink = errors.New("the host's file system cannot share blocks between files, as XFS and btrfs do")

func snapshot(ctx context.Context, path, dir, name string, live bool) (shared bool, err error) {
	to, err := snapshotPath(dir, name)
	if err != nil {
		return false, err
	}
	if _, err := os.Lstat(to); err == nil {
		return false, fs.ErrExist
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	open := func() (*os.File, error) { return lockSoon(ctx, path) }
	if live {
		open = func() (*os.File, error) { return openImage(path) }
	}
	f, err := open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := superblockOf(f); err != nil {
		return false, err
	}
	if err := removeDrafts(dir); err != nil {
		return false, err
	}
	d, shared, err := cloneDraft(ctx, f, to, live)
	if err != nil {
		return false, err
	}
	defer d.discard(&err)
	return shared, d.commitNew()
}

// Kept tells whether the snapshot called name in dir is of the present state of
// the data volume at path, which nothing may use. Like a backup it goes by size
// and time of the last write.
func Kept(path, dir, name string) (bool, error) {
	of, err := snapshotPath(dir, name)
	if err != nil {
		return false, err
	}
	have, err := os.Lstat(of)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	return have.Size() == now.Size() && have.ModTime().Equal(now.ModTime()), nil
}

// Rollback puts the snapshot called name in dir in the place of the data
// volume at path, which nothing may use, and makes it as large as that was. The
// snapshot stays.
func Rollback(ctx context.Context, path, dir, name string) (shared bool, err error) {
	if shared, err = rollback(ctx, path, dir, name); err != nil {
		return false, fmt.Errorf("cannot roll the data volume back to the snapshot %s: %w", quotePath(name), err)
	}
	return shared, nil
}

func rollback(ctx context.Context, path, dir, name string) (shared bool, err error) {
	from, err := snapshotPath(dir, name)
	if err != nil {
		return false, err
	}
	old, err := lockSoon(ctx, path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	f, err := lockSoon(ctx, from)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := superblockOf(f); err != nil {
		return false, err
	}
	size, err := statOf(old)
	if err != nil {
		return false, err
	}
	d, shared, err := cloneDraft(ctx, f, path, false)
	if err != nil {
		return false, err
	}
	defer d.discard(&err)
	if err := d.enlarge(ctx, size.Size); err != nil {
		return false, err
	}
	return shared, d.commit()
}

// RemoveSnapshot removes a snapshot. It is no error where there is none.
func RemoveSnapshot(dir, name string) error {
	path, err := snapshotPath(dir, name)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the snapshot %s: %w", quotePath(name), err)
	}
	return nil
}

// Snapshots lists what is in dir, ordered by name.
func Snapshots(dir string) ([]SnapshotInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the snapshots: %w", err)
	}
	var list []SnapshotInfo
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), snapshotSuffix)
		if !ok || !IsSnapshotName(name) {
			continue // a draft that a killed call left
		}
		var stat unix.Stat_t
		path := filepath.Join(dir, e.Name())
		if err := unix.Lstat(path, &stat); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		list = append(list, SnapshotInfo{
			Name: name, Time: time.Unix(stat.Ctim.Unix()), Size: stat.Size, Allocated: stat.Blocks * 512,
		})
	}
	return list, nil
}

func snapshotPath(dir, name string) (string, error) {
	if !IsSnapshotName(name) {
		return "", errors.New("a name is 1 to 63 lower-case letters, digits and inner dots, dashes or underscores")
	}
	return filepath.Join(dir, name+snapshotSuffix), nil
}
