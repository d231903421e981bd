package supervisor

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/auser/mvm/internal/logfile"
)

// console takes what the guest writes to its serial line: into a log that
// rotates, and to whoever is attached; and it hands the guest what one of them
// types. It never blocks the guest: a reader that does not keep up loses bytes,
// and is told so.
type console struct {
	log *logfile.Writer

	mu      sync.Mutex
	readers map[*reader]bool
	typist  *reader  // who may type; nil while nobody does
	guest   keyboard // of the VM that runs; nil while none does
}

// keyboard is the input of a guest's serial console.
type keyboard interface {
	Type(p []byte, atMost time.Duration) error
}

// reader is one attached person.
type reader struct {
	ch   chan []byte
	lost int // bytes that did not fit into ch
}

// typingDeadline is how long a guest may take to take what was typed. What it
// does not take is lost, as on any serial line.
const typingDeadline = time.Second

func newConsole(log *logfile.Writer) *console {
	return &console{log: log, readers: map[*reader]bool{}}
}

// Write never fails and never blocks on a reader.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	for r := range c.readers {
		r.show(p)
	}
	c.mu.Unlock()
	return c.log.Write(p)
}

// show is called with the console locked.
func (r *reader) show(p []byte) {
	text := append([]byte(nil), p...)
	if r.lost > 0 {
		text = append(fmt.Appendf(nil, "\r\n[mvm: %d bytes were too fast for this terminal]\r\n", r.lost), p...)
	}
	select {
	case r.ch <- text:
		r.lost = 0
	default: // this reader does not keep up
		r.lost += len(p)
	}
}

// attach adds a reader. One of them may type: typing says that it is this one.
func (c *console) attach(input bool) (r *reader, typing bool) {
	r = &reader{ch: make(chan []byte, 64)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers[r] = true
	if input && c.typist == nil {
		c.typist = r
	}
	return r, c.typist == r
}

func (c *console) detach(r *reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, r)
	if c.typist == r {
		c.typist = nil
	}
}

// plug connects the keyboard of a VM that runs, nil when it is gone.
func (c *console) plug(k keyboard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guest = k
}

// typed hands the guest what r typed.
func (c *console) typed(r *reader, p []byte) {
	c.mu.Lock()
	guest, may := c.guest, c.typist == r
	c.mu.Unlock() // the guest's output goes on while it is slow to take its input
	if guest != nil && may {
		guest.Type(p, typingDeadline) // a guest that takes nothing, or is gone, has not heard it
	}
}

func (c *console) Close() error { return c.log.Close() }

// handleConsole carries the console's bytes, both ways where the client may
// type, until the client goes or everything is gone.
func (s *supervisor) handleConsole(req request, conn *net.UnixConn) {
	r, typing := s.console.attach(req.Input)
	defer s.console.detach(r)
	reply(conn, Reply{Done: true, Typing: typing})
	conn.SetWriteDeadline(time.Time{}) // a client may look away for as long as it likes,
	gone := make(chan struct{})
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		select { // but not keep this process from ending
		case <-s.done:
			conn.SetWriteDeadline(time.Now().Add(requestTimeout))
		case <-finished:
		}
	}()
	go func() {
		defer close(gone)
		buf := make([]byte, 1024)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			s.console.typed(r, buf[:n])
		}
	}()
	for {
		select {
		case p := <-r.ch:
			if _, err := conn.Write(p); err != nil {
				return
			}
		case <-gone:
			return
		case <-s.done:
			return
		}
	}
}
