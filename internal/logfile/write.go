// Package logfile keeps logs of bounded size on disk and reads them again:
// from a moment on, their last lines, or as they grow.
//
// It owns the files of a log: the one that is written to, those that were
// rotated away (.1 is the newest) and, beside each, an index of when which
// part was written (.times). What is logged stays byte for byte as it came, so
// the times are not among it. The package must not know whose logs they are.
package logfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// granularity is how exact the index is: what was written within this time
// after an entry belongs to it.
const granularity = time.Second

// timesSuffix makes the name of an index of that of its log.
const timesSuffix = ".times"

// Writer appends to a log. It never fails and never waits for anybody: what
// cannot be written is lost, and the log says so.
type Writer struct {
	path string
	max  int64 // bytes in one file; its index takes about a quarter of that at most
	keep int   // rotated files that are kept beside it

	mu        sync.Mutex
	f, index  *os.File
	size      int64 // of f
	indexSize int64
	stamped   time.Time // of the index's last entry
	lost      int64     // bytes that could not be written
}

// Open opens or makes the log at path, for root alone.
func Open(path string, maxBytes int64, keep int) (*Writer, error) {
	w := &Writer{path: path, max: maxBytes, keep: keep}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size = f, info.Size()
	w.openIndex(info)
	return nil
}

// openIndex goes on with the index of the log that info is of, or begins it.
// A log without an index is only read less exactly.
func (w *Writer) openIndex(info os.FileInfo) {
	w.index, w.indexSize, w.stamped = nil, 0, time.Time{}
	path, head := w.path+timesSuffix, header(info)
	flags := os.O_RDWR | os.O_CREATE | os.O_APPEND
	if old, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(old, []byte(head)) {
		flags |= os.O_TRUNC // another log's
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return
	}
	if flags&os.O_TRUNC != 0 {
		_, err = io.WriteString(f, head)
	} else {
		_, err = io.WriteString(f, "\n") // an entry may have been cut short
	}
	if st, statErr := f.Stat(); err == nil && statErr == nil {
		w.index, w.indexSize = f, st.Size()
		return
	}
	f.Close()
}

// header names the log that an index belongs to.
func header(info os.FileInfo) string {
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf("inode %d\n", inode)
}

// Write never fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size+int64(len(p)) > w.max || w.indexSize > max(w.max/4, 256) {
		w.rotate()
	}
	if w.f == nil && w.open() != nil {
		w.lost += int64(len(p))
		return len(p), nil
	}
	w.stamp(time.Now())
	if w.lost > 0 {
		note := fmt.Sprintf("\r\n[mvm: %d bytes could not be written here]\r\n", w.lost)
		if n, err := io.WriteString(w.f, note); err == nil {
			w.lost, w.size = 0, w.size+int64(n)
		}
	}
	n, err := w.f.Write(p)
	w.size += int64(n)
	if err != nil {
		w.lost += int64(len(p) - n)
	}
	return len(p), nil
}

// stamp notes that what follows was written now, unless that was noted a
// moment ago. A clock that was set back is noted, too.
func (w *Writer) stamp(now time.Time) {
	if since := now.Sub(w.stamped); w.index == nil || since >= 0 && since < granularity {
		return
	}
	n, err := w.index.WriteString(entry(now, w.size))
	w.indexSize += int64(n)
	if err == nil {
		w.stamped = now
	}
}

// rotate moves log to log.1, log.1 to log.2 and so on. A rename that fails
// only makes the next one overwrite more.
func (w *Writer) rotate() {
	w.close()
	for i := w.keep - 1; i >= 0; i-- {
		from, to := rotated(w.path, i), rotated(w.path, i+1)
		os.Rename(from+timesSuffix, to+timesSuffix)
		if os.Rename(from, to) != nil && i == 0 {
			os.Remove(from) // bounded size goes before completeness
		}
	}
	if w.keep == 0 {
		os.Remove(w.path)
	}
	w.size = 0
}

// rotated is the name of the n-th newest file of a log.
func rotated(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// Close closes the log. Writing to it later opens it again.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.close()
}

func (w *Writer) close() error {
	if w.index != nil {
		w.index.Close() // only what was lost of it would tell
		w.index = nil
	}
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	return err
}
