package diskspace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBlocksAreCountedInFragments: a file system may prefer to be read in larger
// blocks than those that it counts in, as FUSE's and virtiofs do.
func TestBlocksAreCountedInFragments(t *testing.T) {
	const gib = 1 << 30
	dir := fuse(t, statfs{Blocks: 100 * gib / 4096, Bavail: 5 * gib / 4096, Bsize: 1 << 20, Frsize: 4096})
	s, err := Of(dir)
	if err != nil || s.Total != 100*gib || s.Free != 5*gib {
		t.Errorf("%+v, %v; want 5 GiB of 100 GiB", s, err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if room, err := Room(f); err != nil || room != 4*gib {
		t.Errorf("room for %d MiB, %v; want 4 GiB", room>>20, err)
	}
}

// statfs is struct fuse_kstatfs of linux/fuse.h.
type statfs struct {
	Blocks, Bfree, Bavail, Files, Ffree uint64
	Bsize, Namelen, Frsize              uint32
	_                                   [7]uint32
}

// fuse mounts a file system that knows nothing but its size.
func fuse(t *testing.T, size statfs) (dir string) {
	t.Helper()
	dir = t.TempDir()
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev.Fd())
	if err := unix.Mount("sizes", dir, "fuse", 0, options); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	go func() { served <- serve(dev, size) }()
	return dir
}

// serve answers the kernel until the file system is unmounted. What it does not
// implement the kernel does without.
func serve(dev *os.File, size statfs) error {
	const opStatfs, opInit, major, minor = 17, 26, 7, 31
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(int(dev.Fd()), buf)
		if err == unix.ENODEV {
			return nil
		}
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		var body any = []byte{}
		failed := int32(0)
		switch op := binary.NativeEndian.Uint32(buf[4:n]); op {
		case opInit:
			body = [16]uint32{major, minor}
		case opStatfs:
			body = size
		default:
			failed = -int32(unix.ENOSYS)
		}
		head := struct {
			Len   uint32
			Error int32
			ID    uint64
		}{uint32(16 + binary.Size(body)), failed, binary.NativeEndian.Uint64(buf[8:n])}
		var answer bytes.Buffer
		for _, part := range []any{head, body} {
			if err := binary.Write(&answer, binary.NativeEndian, part); err != nil {
				return err
			}
		}
		// ENOENT: nobody waits for the answer any more.
		if _, err := unix.Write(int(dev.Fd()), answer.Bytes()); err != nil && err != unix.ENOENT {
			return fmt.Errorf("answering: %w", err)
		}
	}
}
