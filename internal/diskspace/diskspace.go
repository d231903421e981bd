// Package diskspace keeps what tenants decide the size of from filling a disk:
// one that runs full hurts all of them.
//
// It owns how much of a disk is left alone, and nothing of what is written.
package diskspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrFull is what Take says where the disk has no room to spare. It wraps
// ENOSPC.
var ErrFull = fmt.Errorf("the disk has too little room to spare: %w", unix.ENOSPC)

// Space is what a disk has.
type Space struct {
	Total, Free      uint64 // bytes; of the free ones, what not only root may have
	Files, FilesFree uint64 // inodes; 0 where the file system counts none
}

// Of is the space of the disk that path is on.
func Of(path string) (Space, error) {
	var s unix.Statfs_t
	if err := whole(func() error { return unix.Statfs(path, &s) }); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return space(&s), nil
}

// OfFile is the space of the disk that f is on.
func OfFile(f *os.File) (Space, error) {
	var s unix.Statfs_t
	if err := whole(func() error { return unix.Fstatfs(int(f.Fd()), &s) }); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return space(&s), nil
}

func space(s *unix.Statfs_t) Space {
	return Space{Total: s.Blocks * unit(s), Free: s.Bavail * unit(s), Files: s.Files, FilesFree: s.Ffree}
}

func whole(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// FewFiles says that fewer than one in a hundred inodes are free.
func (s Space) FewFiles() bool { return s.Files > 0 && s.FilesFree < s.Files/100 }

// Room is how many bytes the disk that f is on can take until it has only a
// twentieth of its size left, or 1 GiB. It is 0 at most where it has few inodes
// left.
func Room(f *os.File) (int64, error) {
	s, err := OfFile(f)
	if err != nil {
		return 0, err
	}
	room := int64(s.Free) - min(int64(s.Total)/20, 1<<30)
	if s.FewFiles() {
		return min(room, 0), nil
	}
	return room, nil
}

// Allowance is what may still be written to the disk of F.
type Allowance struct {
	F    *os.File
	left int64 // until the next look at the disk
}

// between is how much is written between two looks at the disk at most.
const between = 1 << 20

// Take takes n bytes of it, or fails with ErrFull.
func (a *Allowance) Take(n int64) error {
	if a.left < n {
		room, err := Room(a.F)
		if err != nil {
			return err
		}
		if room < n {
			return ErrFull
		}
		a.left = min(room, max(between, n))
	}
	a.left -= n
	return nil
}
