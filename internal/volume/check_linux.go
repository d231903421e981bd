package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/auser/mvm/internal/diskspace"
)

// Info is what a look at a data volume shows. While a VM runs, what concerns
// the file system is as of its last unmount or so.
type Info struct {
	Size       int64 // bytes of the image
	Allocated  int64 // bytes that it takes on the host's disk, shared ones included
	FileSystem int64 // bytes of the file system, less than Size before it has grown
	Used       int64 // bytes of the file system that are taken
	Dirty      bool  // not unmounted cleanly, or mounted now
	Errors     bool  // the guest's kernel met errors
	Fresh      bool  // no guest has ever mounted it
}

// Inspect looks at the data volume at path, which may be in use. The error
// wraps ErrForeign or ErrDamaged where one of these is the reason; what is
// known of the image itself is returned even then.
func Inspect(path string) (info Info, err error) {
	f, err := openImage(path)
	if err != nil {
		return Info{}, fmt.Errorf("cannot inspect the data volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stat, err := statOf(f)
	if err != nil {
		return Info{}, err
	}
	info = Info{Size: stat.Size, Allocated: stat.Blocks * 512}
	s, err := readSuperblock(f, info.Size)
	if err != nil {
		return info, fmt.Errorf("cannot inspect the data volume %s: %w", path, err)
	}
	info.FileSystem = s.size()
	info.Used = (s.blocks - s.free) * s.blockSize
	info.Dirty, info.Errors, info.Fresh = s.dirty, s.errors, s.fresh
	return info, nil
}

// Lags tells whether the file system has yet to grow to the size of its image.
func (i Info) Lags() bool { return i.Size-i.FileSystem >= leastGrowth }

// Sizes are how large the data volume at path is, and how large it can become
// until it has taken all that its disk has to spare now.
func Sizes(path string) (now, most int64, err error) {
	f, err := openImage(path)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot look at the data volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stat, err := statOf(f)
	if err != nil {
		return 0, 0, err
	}
	room, err := diskspace.Room(f)
	return stat.Size, max(stat.Size, stat.Blocks*512+room), err
}

// Check looks for errors in the whole file system of the data volume at path,
// which nothing else may use, and changes nothing but to replay the journal.
// The error wraps ErrDamaged and holds e2fsck's findings where there are
// errors.
func Check(ctx context.Context, path string) (r Report, err error) {
	f, err := lockSoon(ctx, path)
	if err != nil {
		return Report{}, fmt.Errorf("cannot check the data volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if r, err = check(ctx, f); err != nil {
		return r, fmt.Errorf("cannot vouch for the data volume %s: %w", path, err)
	}
	return r, nil
}

func check(ctx context.Context, f *os.File) (Report, error) {
	s, err := superblockOf(f)
	if err != nil {
		return Report{}, err
	}
	var r Report
	if s.dirty {
		if _, err := fsck(ctx, f, "-p", "-E", "journal_only"); err != nil {
			return Report{}, err
		}
		r = Report{Replayed: true, Note: noteReplayed}
	}
	_, err = fsck(ctx, f, "-f", "-n")
	return r, err
}

// Repair repairs what is wrong with the data volume at path, which nothing
// else may use, and returns what e2fsck said. It may lose what can't be saved,
// so a person has to ask for it. The work is done on a copy that then takes
// the volume's place.
func Repair(ctx context.Context, path string) (said string, err error) {
	f, err := lockSoon(ctx, path)
	if err != nil {
		return "", fmt.Errorf("cannot repair the data volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if said, err = repair(ctx, f, path); err != nil {
		return said, fmt.Errorf("cannot repair the data volume %s: %w", path, err)
	}
	return said, nil
}

func repair(ctx context.Context, f *os.File, path string) (said string, err error) {
	d, _, err := cloneDraft(ctx, f, path, false)
	if err != nil {
		return "", err
	}
	defer d.discard(&err)
	if said, err = fsck(ctx, d.File, "-f", "-y"); err != nil {
		return said, err
	}
	if _, err := check(ctx, d.File); err != nil {
		return said, err
	}
	return said, d.commit()
}

// Trim gives the host's disk back what the guest of the data volume at path
// has deleted. Nothing else may use the volume.
func Trim(ctx context.Context, path string) (freed int64, err error) {
	f, err := lockSoon(ctx, path)
	if err != nil {
		return 0, fmt.Errorf("cannot trim the data volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if freed, err = trim(ctx, f); err != nil {
		return 0, fmt.Errorf("cannot trim the data volume %s: %w", path, err)
	}
	return freed, nil
}

func trim(ctx context.Context, f *os.File) (freed int64, err error) {
	if _, err := prepare(ctx, f); err != nil {
		return 0, err
	}
	before, err := statOf(f)
	if err != nil {
		return 0, err
	}
	if _, err := fsck(ctx, f, "-f", "-p", "-E", "discard"); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	after, err := statOf(f)
	if err != nil {
		return 0, err
	}
	return max(0, (before.Blocks-after.Blocks)*512), nil
}
