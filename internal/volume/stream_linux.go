package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/auser/mvm/internal/diskspace"
)

// A data volume travels as a zstd stream of the raw image, with zstd's
// checksum: any zstd program can read and make one. Holes travel as zeros,
// which take next to no room, and come out as holes.

// maxWindow bounds the memory that a stream can ask for; it is what the zstd
// program accepts, too.
const maxWindow = 128 << 20

// chunk is how much of an image is handled at once.
const chunk = 1 << 20

var zeros [chunk]byte

// Export writes the data volume at path, which nothing may change meanwhile,
// to w.
func Export(ctx context.Context, path string, w io.Writer) (err error) {
	f, err := lockSoon(ctx, path)
	if err != nil {
		return fmt.Errorf("cannot export the data volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := export(ctx, f, w); err != nil {
		return fmt.Errorf("cannot export the data volume %s: %w", path, err)
	}
	return nil
}

func export(ctx context.Context, f *os.File, w io.Writer) error {
	stat, err := statOf(f)
	if err != nil {
		return err
	}
	if _, err := readSuperblock(f, stat.Size); err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	enc.ResetContentSize(w, stat.Size)
	if err := encode(ctx, enc, f, stat.Size); err != nil {
		return errors.Join(err, enc.Close())
	}
	return enc.Close()
}

func encode(ctx context.Context, enc io.Writer, f *os.File, size int64) error {
	var done int64
	buf := make([]byte, chunk)
	err := eachExtent(f, size, func(off, length int64) error {
		if err := writeZeros(ctx, enc, off-done); err != nil {
			return err
		}
		for end := off + length; off < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			part := buf[:min(chunk, end-off)]
			if _, err := f.ReadAt(part, off); err != nil {
				return err
			}
			if _, err := enc.Write(part); err != nil {
				return err
			}
			off += int64(len(part))
		}
		done = off
		return nil
	})
	if err != nil {
		return err
	}
	return writeZeros(ctx, enc, size-done)
}

func writeZeros(ctx context.Context, w io.Writer, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := zeros[:min(chunk, n)]
		if _, err := w.Write(part); err != nil {
			return err
		}
		n -= int64(len(part))
	}
	return nil
}

// ImportOptions say what an import may do.
type ImportOptions struct {
	MaxBytes int64 // the largest volume to accept
	MinBytes int64 // what a smaller one is made as large as
	UID, GID int   // who owns the volume
	Replace  bool  // take the place of a volume that is there, which nothing may use
}

// Import makes the data volume at path from a stream that Export wrote. It
// trusts nothing in it: a stream that is damaged, ends early, is no volume, is
// larger than allowed or would fill the host's disk leaves what is at path as
// it was. Where something is there that it may not replace, the error wraps
// fs.ErrExist.
func Import(ctx context.Context, path string, r io.Reader, o ImportOptions) (rep Report, err error) {
	if rep, err = importData(ctx, path, r, o); err != nil {
		return Report{}, fmt.Errorf("cannot import the data volume %s: %w", path, err)
	}
	return rep, nil
}

func importData(ctx context.Context, path string, r io.Reader, o ImportOptions) (rep Report, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Report{}, err
	}
	old, err := lockSoon(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return Report{}, err
	default:
		defer func() { err = errors.Join(err, old.Close()) }()
		if !o.Replace {
			return Report{}, fs.ErrExist
		}
	}
	d, err := newDraft(path)
	if err != nil {
		return Report{}, err
	}
	defer d.discard(&err)
	if err := d.Chown(o.UID, o.GID); err != nil {
		return Report{}, err
	}
	if err := decode(ctx, d.File, r, o.MaxBytes); err != nil {
		return Report{}, err
	}
	// The file system may be dirty like that of any other stopped VM.
	if rep, err = prepare(ctx, d.File); err != nil {
		return Report{}, err
	}
	// That it says it is clean proves nothing: somebody else made it.
	if _, err = fsck(ctx, d.File, "-f", "-n"); errors.Is(err, ErrDamaged) {
		_, err = fsck(ctx, d.File, "-f", "-p")
	}
	if err != nil {
		return Report{}, err
	}
	if err := d.enlarge(ctx, o.MinBytes); err != nil {
		return Report{}, err
	}
	if old == nil {
		return rep, d.commitNew()
	}
	return rep, d.commit()
}

// decode writes the image in the stream r to the empty file f.
func decode(ctx context.Context, f *os.File, r io.Reader, limit int64) error {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer dec.Close()
	buf := make([]byte, chunk)
	w := sparseWriter{f: f, room: diskspace.Allowance{F: f}}
	var off int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := fill(dec, buf)
		if off+int64(n) > limit {
			return fmt.Errorf("it is larger than the %d MiB that are allowed", limit/mib)
		}
		if err := w.writeAt(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
		if err == io.EOF {
			return f.Truncate(off)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("the stream is damaged or no zstd stream: %w", err)
		}
	}
}

// fill reads until buf is full. Unlike io.ReadFull it hands on the reader's
// own error, which tells the end of a stream from one that was cut off.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// sparseWriter writes to a file what is not zero, and leaves the disk some
// room.
type sparseWriter struct {
	f    *os.File
	room diskspace.Allowance
}

// holeSize is that of the smallest hole that is worth making.
const holeSize = 4096

func (w *sparseWriter) writeAt(p []byte, off int64) error {
	for len(p) > 0 {
		hole := prefix(p, true)
		data := prefix(p[hole:], false)
		if err := w.write(p[hole:hole+data], off+int64(hole)); err != nil {
			return err
		}
		p, off = p[hole+data:], off+int64(hole+data)
	}
	return nil
}

// prefix is the length of the blocks at the start of p that are all zero, or
// all not.
func prefix(p []byte, zero bool) int {
	n := 0
	for n < len(p) {
		block := p[n:min(n+holeSize, len(p))]
		if bytes.Equal(block, zeros[:len(block)]) != zero {
			break
		}
		n += len(block)
	}
	return n
}

func (w *sparseWriter) write(p []byte, off int64) error {
	if err := w.room.Take(int64(len(p))); err != nil {
		return err
	}
	_, err := w.f.WriteAt(p, off)
	return err
}
