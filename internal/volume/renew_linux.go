package volume

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Content says what a disk holds: its first Size bytes have this hash.
type Content struct {
	Size   int64
	SHA256 string
}

// Renewal is the next content of a secrets volume that a VM has open.
type Renewal struct {
	Old, New      Content
	current, next *os.File
}

// Renew makes the next content of the secrets volume at path, beside it. Swap
// puts it in place; the caller ends with Close.
func Renew(ctx context.Context, path string, files []File) (_ *Renewal, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot renew the secrets volume: %w", err)
		}
	}()
	beside := path + ".next"
	if err := makeSecrets(ctx, beside, files, 0, 0); err != nil {
		return nil, err
	}
	r := &Renewal{}
	if r.next, err = openImage(beside); err != nil {
		return nil, errors.Join(err, os.Remove(beside))
	}
	if r.current, err = openImage(path); err == nil {
		err = r.measure()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// measure takes both contents' hashes, and all the memory that an exchange of
// them can need: it must not fail half way.
func (r *Renewal) measure() (err error) {
	if r.Old, err = contentOf(r.current); err != nil {
		return err
	}
	if r.New, err = contentOf(r.next); err != nil {
		return err
	}
	for _, f := range []*os.File{r.current, r.next} {
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, r.length()); err != nil {
			return fmt.Errorf("there is no memory for it: %w", err)
		}
	}
	return nil
}

func (r *Renewal) length() int64 { return max(r.Old.Size, r.New.Size) }

func contentOf(f *os.File) (Content, error) {
	info, err := f.Stat()
	if err != nil {
		return Content{}, err
	}
	var end int64
	if err := eachExtent(f, info.Size(), func(off, length int64) error {
		end = off + length
		return nil
	}); err != nil {
		return Content{}, err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(f, 0, end)); err != nil {
		return Content{}, err
	}
	return Content{end, hex.EncodeToString(hash.Sum(nil))}, nil
}

// Swap exchanges the two contents, in the same files; doing it twice restores
// the first.
func (r *Renewal) Swap() error {
	const step = 256 << 10
	a, b := make([]byte, step), make([]byte, step)
	for off := int64(0); off < r.length(); off += step {
		n := min(step, r.length()-off)
		_, errA := r.current.ReadAt(a[:n], off)
		_, errB := r.next.ReadAt(b[:n], off)
		if err := errors.Join(errA, errB); err != nil {
			return fmt.Errorf("cannot exchange the secrets: %w", err)
		}
		_, errA = r.next.WriteAt(a[:n], off)
		_, errB = r.current.WriteAt(b[:n], off)
		if err := errors.Join(errA, errB); err != nil {
			return fmt.Errorf("cannot exchange the secrets: %w", err)
		}
	}
	return nil
}

// Close removes the content that is not in place.
func (r *Renewal) Close() error {
	err := errors.Join(os.Remove(r.next.Name()), r.next.Close())
	if r.current != nil {
		err = errors.Join(err, r.current.Close())
	}
	return err
}
