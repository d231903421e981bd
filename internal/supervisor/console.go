package supervisor

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// console takes what the guest writes to its serial line: into a log that
// rotates, and to whoever is attached. It never blocks the guest: a log that
// cannot be written and a reader that does not keep up lose bytes, and the log
// says so.
type console struct {
	path  string
	max   int64 // bytes in one file
	files int   // rotated files that are kept beside it

	mu      sync.Mutex
	f       *os.File
	size    int64
	lost    int64 // bytes that could not be written to the log
	readers map[*reader]bool
}

// reader is one attached person.
type reader struct{ ch chan []byte }

func openConsole(path string, maxBytes int64, files int) (*console, error) {
	c := &console{path: path, max: maxBytes, files: files, readers: map[*reader]bool{}}
	if err := c.open(); err != nil {
		return nil, fmt.Errorf("cannot open the console log: %w", err)
	}
	return c, nil
}

func (c *console) open() error {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	c.f, c.size = f, info.Size()
	return nil
}

// Write never fails and never blocks on a reader.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.readers {
		select {
		case r.ch <- append([]byte(nil), p...):
		default: // this reader does not keep up
		}
	}
	c.log(p)
	return len(p), nil
}

func (c *console) log(p []byte) {
	if c.size+int64(len(p)) > c.max {
		c.rotate()
	}
	if c.f == nil && c.open() != nil {
		c.lost += int64(len(p))
		return
	}
	if c.lost > 0 {
		note := fmt.Sprintf("\r\n[mvm: %d bytes of the console could not be written here]\r\n", c.lost)
		if n, err := io.WriteString(c.f, note); err == nil {
			c.lost, c.size = 0, c.size+int64(n)
		}
	}
	n, err := c.f.Write(p)
	c.size += int64(n)
	if err != nil {
		c.lost += int64(len(p) - n)
	}
}

// rotate moves log to log.1, log.1 to log.2 and so on. A rename that fails
// only makes the next one overwrite more.
func (c *console) rotate() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
	for i := c.files - 1; i > 0; i-- {
		os.Rename(fmt.Sprintf("%s.%d", c.path, i), fmt.Sprintf("%s.%d", c.path, i+1))
	}
	if os.Rename(c.path, c.path+".1") != nil {
		os.Remove(c.path) // bounded size goes before completeness
	}
	c.size = 0
}

func (c *console) attach() *reader {
	r := &reader{ch: make(chan []byte, 64)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers[r] = true
	return r
}

func (c *console) detach(r *reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, r)
}

func (c *console) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f == nil {
		return nil
	}
	err := c.f.Close()
	c.f = nil
	return err
}
