package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cloneDraft starts the file for path as a copy of the image f, with its owner
// and locked like it. Where the file system can, the two share their blocks
// until one of them changes (a reflink); shared tells whether that is so. With
// mustShare it fails with ErrNoReflink where not.
func cloneDraft(ctx context.Context, f *os.File, path string, mustShare bool) (d *draft, shared bool, err error) {
	c, err := newDraft(path)
	if err != nil {
		return nil, false, err
	}
	shared, err = c.fill(ctx, f, mustShare)
	if err != nil {
		c.discard(&err)
		return nil, false, err
	}
	return c, shared, nil
}

func (d *draft) fill(ctx context.Context, f *os.File, mustShare bool) (shared bool, err error) {
	stat, err := statOf(f)
	if err != nil {
		return false, err
	}
	if err := d.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
		return false, err
	}
	switch err := unix.IoctlFileClone(int(d.Fd()), int(f.Fd())); {
	case err == nil:
		shared = true
	case mustShare:
		return false, fmt.Errorf("%w (%w)", ErrNoReflink, err)
	default:
		if err := copySparse(ctx, d.File, f); err != nil {
			return false, err
		}
	}
	// By it a copy is known to be of what is there now.
	return shared, os.Chtimes(d.Name(), time.Time{}, time.Unix(stat.Mtim.Unix()))
}

// copySparse copies the data of src to the empty file dst and leaves its holes
// out.
func copySparse(ctx context.Context, dst, src *os.File) error {
	stat, err := statOf(src)
	if err != nil {
		return err
	}
	if err := dst.Truncate(stat.Size); err != nil {
		return err
	}
	return eachExtent(src, stat.Size, func(off, length int64) error {
		return copyRange(ctx, dst, src, off, length)
	})
}

// copyStep is how much is copied between two looks at the context.
const copyStep = 16 << 20

func copyRange(ctx context.Context, dst, src *os.File, off, length int64) error {
	for length > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := dst.Seek(off, io.SeekStart); err != nil {
			return err
		}
		if _, err := src.Seek(off, io.SeekStart); err != nil {
			return err
		}
		step := min(length, copyStep)
		if _, err := io.CopyN(dst, src, step); err != nil { // in the kernel, by copy_file_range
			return err
		}
		off, length = off+step, length-step
	}
	return nil
}

// eachExtent calls fn for each part of f that holds data, in order.
func eachExtent(f *os.File, size int64, fn func(off, length int64) error) error {
	for off := int64(0); off < size; {
		start, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return nil // a hole to the end
		}
		if err != nil {
			return err
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		start, end = min(start, size), min(end, size)
		if end > start {
			if err := fn(start, end-start); err != nil {
				return err
			}
		}
		off = end
	}
	return nil
}
