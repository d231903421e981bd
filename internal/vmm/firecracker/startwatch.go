package firecracker

import (
	"bytes"
	"io"
	"sync"
)

// startedWords is what Firecracker logs once the machine of its configuration
// file runs.
var startedWords = []byte("Successfully started microvm")

// startWatch hands the log on and closes started when it tells of the start.
//
// Asking the API would do as well, if it were not for configurations that
// fail: an API thread that has a question open when they do panics, and takes
// the reason with it.
type startWatch struct {
	to      io.Writer
	started chan struct{}
	once    sync.Once
	tail    []byte
}

func (w *startWatch) Write(p []byte) (int, error) {
	seen := append(w.tail, p...)
	if bytes.Contains(seen, startedWords) {
		w.once.Do(func() { close(w.started) })
	}
	w.tail = append([]byte(nil), seen[max(0, len(seen)-len(startedWords)+1):]...)
	return w.to.Write(p)
}
