package firecracker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/vmm"
)

// fifo is a named pipe that Firecracker writes to as if to a file: what it
// writes is bounded by whoever reads.
type fifo struct {
	reader *os.File
	keeper *os.File // a writer, so that the reader waits before Firecracker comes
	done   chan struct{}
}

// openFIFO makes name anew in dir, for the VMM's user, and hands on to w what
// comes through.
func openFIFO(dir, name string, uid, gid int, w io.Writer) (*fifo, error) {
	path := filepath.Join(dir, name)
	fail := func(err error) (*fifo, error) {
		return nil, fmt.Errorf("cannot make %s: %w", path, err)
	}
	if err := os.RemoveAll(path); err != nil {
		return fail(err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return fail(err)
	}
	if err := os.Lchown(path, uid, gid); err != nil {
		return fail(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(err)
	}
	keeper, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(errors.Join(err, reader.Close()))
	}
	f := &fifo{reader, keeper, make(chan struct{})}
	go func() {
		defer close(f.done)
		vmm.HandOn(w, reader)
	}()
	return f, nil
}

// finish hands on what is still in the pipe, once Firecracker is gone. A writer
// that hangs is left.
func (f *fifo) finish() {
	f.keeper.Close() // the reader sees the end now
	select {
	case <-f.done:
	case <-time.After(time.Second):
	}
	f.reader.Close()
}
