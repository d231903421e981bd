package vmm

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// panicMark is what Linux says last when it panics, on every console.
var panicMark = []byte("Kernel panic - not syncing: ")

// maxPanic bounds what is kept of the guest's last words.
const maxPanic = 160

// PanicWatch hands a console on and remembers whether the guest's kernel
// panicked: after that, VMMs end as they do after a reboot. The console is the
// guest's to write, so what it says is good for people to read and for nothing
// else.
type PanicWatch struct {
	To io.Writer // may be nil

	mu      sync.Mutex
	tail    []byte // the end of what was seen, shorter than the mark
	message []byte
	found   bool
	whole   bool // the message's line has ended
}

func (w *PanicWatch) Write(p []byte) (int, error) {
	w.look(p)
	if w.To == nil {
		return len(p), nil
	}
	return w.To.Write(p)
}

func (w *PanicWatch) look(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.whole {
		return
	}
	if !w.found {
		seen := append(w.tail, p...)
		at := bytes.Index(seen, panicMark)
		if at < 0 {
			w.tail = append([]byte(nil), seen[max(0, len(seen)-len(panicMark)+1):]...)
			return
		}
		w.found, w.tail, p = true, nil, seen[at+len(panicMark):]
	}
	line, _, ended := bytes.Cut(p, []byte("\n"))
	w.message = append(w.message, line[:min(len(line), maxPanic-len(w.message))]...)
	w.whole = ended || len(w.message) == maxPanic
}

// Panic is what the guest's kernel said of its panic; ok is false if there was
// none.
func (w *PanicWatch) Panic() (message string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	printable := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(w.message))
	return strings.TrimSpace(printable), w.found
}
