package vmm

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxWords bounds what is kept of a VMM's own output.
const maxWords = 600

// LastWords hands a VMM's own output on and keeps the end of it, for the
// reason of its exit.
type LastWords struct {
	To io.Writer // may be nil

	mu   sync.Mutex
	tail []byte
}

func (w *LastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock() // a VMM may have two pipes, To is written to by one at a time
	w.tail = append(w.tail, p...)
	if extra := len(w.tail) - maxWords; extra > 0 {
		kept := w.tail[extra:]
		if _, whole, cut := bytes.Cut(w.tail[extra-1:], []byte("\n")); cut && len(whole) > 0 {
			kept = whole // the rest of a line means little
		}
		w.tail = append([]byte(nil), kept...)
	}
	if w.To == nil {
		return len(p), nil
	}
	return w.To.Write(p)
}

// String is what was said last, on one line.
func (w *LastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, string(w.tail))), " ")
}

// After is what was said last behind a separator, or nothing.
func (w *LastWords) After(separator string) string {
	said := w.String()
	if said == "" {
		return ""
	}
	return separator + said
}

// KilledBy says in words which signal ended a VMM, and for whom.
func KilledBy(signal syscall.Signal, byMvm bool) string {
	switch {
	case byMvm && signal == syscall.SIGKILL:
		return "mvm killed the VMM"
	case signal == syscall.SIGKILL:
		return "the VMM was killed from outside, by a person or by the kernel for lack of memory"
	case signal == syscall.SIGSYS:
		return "the VMM made a system call that it may not make (SIGSYS)"
	case signal == syscall.SIGABRT:
		return "the VMM gave up (SIGABRT)"
	}
	return "the VMM was ended by signal " + unix.SignalName(signal)
}
