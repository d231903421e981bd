package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Options say which part of a log is read.
type Options struct {
	Since  time.Time // zero: from the beginning
	Tail   int       // the last so many lines; below 0: all
	Follow bool      // go on with what is written, until the context ends

	// Stamp reads the time of a line from the line itself, for logs that carry
	// their own. It may be nil.
	Stamp func(line []byte) (time.Time, bool)
}

// Read copies what is kept of the log at path to w, the oldest first, rotated
// files included. A log that was never written is fs.ErrNotExist, unless it is
// followed: then it is waited for.
func Read(ctx context.Context, path string, o Options, w io.Writer) error {
	parts, err := open(path, nil)
	defer func() { closeAll(parts) }()
	if err != nil {
		return err
	}
	if len(parts) == 0 && !o.Follow {
		return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if !o.Since.IsZero() {
		if err := skipBefore(path, parts, o); err != nil {
			return err
		}
	}
	if err := skipToTail(parts, o.Tail); err != nil {
		return err
	}
	for _, p := range parts {
		if err := p.copy(w); err != nil {
			return err
		}
	}
	if !o.Follow {
		return nil
	}
	var last *part
	if n := len(parts); n > 0 {
		last = parts[n-1]
		closeAll(parts[:n-1])
		parts = nil
	}
	return follow(ctx, path, last, w)
}

// part is one file of a log, with where to go on reading.
type part struct {
	f    *os.File
	info os.FileInfo
	at   int64
	skip bool // nothing of it is wanted
}

func closeAll(parts []*part) {
	for _, p := range parts {
		p.f.Close()
	}
}

func (p *part) copy(w io.Writer) error {
	if p.skip {
		return nil
	}
	n, err := io.Copy(w, io.NewSectionReader(p.f, p.at, 1<<62))
	p.at += n
	return err
}

// open opens the files of a log that are newer than known, the oldest first.
// It looks at the newest first: a rotation in between then shows one file
// twice, which is noticed, and hides none.
func open(path string, known os.FileInfo) ([]*part, error) {
	var parts []*part
	for n := 0; ; n++ {
		f, err := os.Open(rotated(path, n))
		if errors.Is(err, fs.ErrNotExist) {
			if n == 0 {
				continue // between two files
			}
			return parts, nil
		}
		if err != nil {
			closeAll(parts)
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			closeAll(parts)
			return nil, err
		}
		switch {
		case known != nil && os.SameFile(info, known):
			f.Close()
			return parts, nil
		case len(parts) > 0 && os.SameFile(info, parts[0].info):
			f.Close()
		default:
			parts = append([]*part{{f: f, info: info}}, parts...)
		}
	}
}

// skipBefore moves to what was written at or after o.Since.
func skipBefore(path string, parts []*part, o Options) error {
	for i, p := range parts {
		at, found, err := p.since(path, len(parts)-1-i, o)
		if err != nil {
			return err
		}
		if !found {
			p.skip = true
			continue
		}
		p.at, err = p.lineStart(at)
		return err // all that follows is newer
	}
	return nil
}

// since finds where the part that is wanted begins. A file that says nothing
// of its times is as old as its last change.
func (p *part) since(path string, n int, o Options) (at int64, found bool, err error) {
	if o.Stamp != nil {
		return p.stampedSince(o)
	}
	head := header(p.info)
	for _, i := range []int{n, n + 1} { // it may have been rotated meanwhile
		have, moments, err := readIndex(rotated(path, i) + timesSuffix)
		if errors.Is(err, fs.ErrNotExist) || err == nil && have != head {
			continue
		}
		if err != nil {
			return 0, false, fmt.Errorf("cannot read when the log was written: %w", err)
		}
		if len(moments) > 0 {
			at, found = from(moments, o.Since)
			return at, found, nil
		}
	}
	return 0, !p.info.ModTime().Before(o.Since), nil
}

func (p *part) stampedSince(o Options) (at int64, found bool, err error) {
	data, err := io.ReadAll(io.NewSectionReader(p.f, 0, 1<<62))
	if err != nil {
		return 0, false, err
	}
	for line := range bytes.Lines(data) {
		if t, ok := o.Stamp(line); ok && !t.Before(o.Since) {
			return at, true, nil
		}
		at += int64(len(line))
	}
	return 0, false, nil
}

// longLine bounds how far the beginning of a line is looked for.
const longLine = 4096

// lineStart is where the line that at is in begins.
func (p *part) lineStart(at int64) (int64, error) {
	from := max(0, at-longLine)
	buf := make([]byte, at-from)
	n, err := p.f.ReadAt(buf, from)
	if err != nil && err != io.EOF {
		return 0, err
	}
	buf = buf[:n]
	if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
		return from + int64(i) + 1, nil
	}
	if from == 0 {
		return 0, nil
	}
	return at, nil
}

// skipToTail moves to where the last n lines of all parts together begin.
func skipToTail(parts []*part, n int) error {
	if n < 0 {
		return nil
	}
	left := n
	atEnd := true // the newline that ends the last line begins none
	for i := len(parts) - 1; i >= 0; i-- {
		p := parts[i]
		if p.skip {
			break
		}
		size, err := p.f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if n == 0 {
			p.at = size
			continue
		}
		at, err := p.linesBack(size, &left, &atEnd)
		if err != nil {
			return err
		}
		p.at = at
		if left == 0 {
			for _, older := range parts[:i] {
				older.skip = true
			}
			return nil
		}
	}
	return nil
}

// linesBack goes back from end until *left lines have begun, but not before
// where the part begins.
func (p *part) linesBack(end int64, left *int, atEnd *bool) (int64, error) {
	buf := make([]byte, 64<<10)
	for at := end; at > p.at; {
		size := min(at-p.at, int64(len(buf)))
		at -= size
		if _, err := p.f.ReadAt(buf[:size], at); err != nil {
			return 0, err
		}
		for i := size - 1; i >= 0; i-- {
			last := *atEnd
			*atEnd = false
			if buf[i] != '\n' || last {
				continue
			}
			if *left--; *left == 0 {
				return at + i + 1, nil
			}
		}
	}
	return p.at, nil
}

// follow goes on from last, which may be nil, also when the log is rotated, any
// number of times, made anew or not there yet.
func follow(ctx context.Context, path string, last *part, w io.Writer) error {
	defer func() {
		if last != nil {
			last.f.Close()
		}
	}()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		var err error
		if last, err = advance(path, last, w); err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// advance copies what is new and returns the part that is written to now.
func advance(path string, last *part, w io.Writer) (*part, error) {
	var known os.FileInfo
	if last != nil {
		known = last.info
	}
	// Looked at before the copy: a rotation after it is for the next time.
	newer, err := open(path, known)
	if err != nil {
		return last, err
	}
	if last != nil {
		if info, err := last.f.Stat(); err == nil && info.Size() < last.at {
			last.at = 0 // it was cut, and begins anew
		}
		if err := last.copy(w); err != nil {
			closeAll(newer)
			return last, err
		}
	}
	for i, p := range newer {
		if err := p.copy(w); err != nil {
			closeAll(newer[i:])
			return last, err
		}
		if last != nil {
			last.f.Close()
		}
		last = p
	}
	return last, nil
}
