package volume

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// cloneDraft starts the file for path as a copy of the image f, with its owner
// and locked like it. Where the file system can, the two share their blocks
// until one of them changes (a reflink); shared tells whether that is so.
func cloneDraft(ctx context.Context, f *os.File, path string) (d *draft, shared bool, err error) {
	d, err = newDraft(path)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			d.discard(&err)
		}
	}()
	if err := flock(d.File, unix.LOCK_EX); err != nil {
		return nil, false, err
	}
	cred, err := owner(f)
	if err != nil {
		return nil, false, err
	}
	if err := d.Chown(int(cred.Uid), int(cred.Gid)); err != nil {
		return nil, false, err
	}
	if err := unix.IoctlFileClone(int(d.Fd()), int(f.Fd())); err == nil {
		return d, true, nil
	}
	if err := copySparse(ctx, d.File, f); err != nil {
		return nil, false, err
	}
	return d, false, nil
}

// copySparse copies the data of src to the empty file dst and leaves its holes
// out.
func copySparse(ctx context.Context, dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	return eachExtent(src, info.Size(), func(off, length int64) error {
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
