// Package flock locks files with flock(2). The kernel gives a lock back when the
// last descriptor of it is gone, however its holder ends: none is ever left.
package flock

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks f as flock(2) does: how is unix.LOCK_SH, LOCK_EX or LOCK_UN, with
// LOCK_NB to fail with unix.EWOULDBLOCK where another has it. A signal, which
// some file systems let interrupt it, does not end it.
func Lock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}
