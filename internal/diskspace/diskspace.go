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

// Room is how many bytes the disk that f is on can take until it has only a
// twentieth of its size left, or 1 GiB. It is 0 at most where fewer than one in
// a hundred inodes are free.
func Room(f *os.File) (int64, error) {
	var s unix.Statfs_t
	if err := fstatfs(f, &s); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	reserve := min(int64(s.Blocks)*int64(s.Bsize)/20, 1<<30)
	room := int64(s.Bavail)*int64(s.Bsize) - reserve
	if s.Files > 0 && s.Ffree < s.Files/100 {
		return min(room, 0), nil
	}
	return room, nil
}

func fstatfs(f *os.File, s *unix.Statfs_t) error {
	for {
		err := unix.Fstatfs(int(f.Fd()), s)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
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
