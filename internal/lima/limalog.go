package lima

import (
	"bytes"
	"encoding/json"
)

// logWriter reads what limactl logs as JSON, a line for each entry.
type logWriter struct {
	say     func(format string, args ...any)
	line    []byte
	entries int
	failure string // the last that it gave as an error
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.line = append(w.line, p...)
	for {
		line, rest, whole := bytes.Cut(w.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		w.entry(line)
		w.line = rest
	}
}

// entry takes one line. What is no entry, such as the progress of a download,
// is left out.
func (w *logWriter) entry(line []byte) {
	var e struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Error string `json:"error"`
	}
	if json.Unmarshal(line, &e) != nil || e.Msg == "" {
		return
	}
	w.entries++
	if e.Error != "" {
		e.Msg += ": " + e.Error
	}
	switch e.Level {
	case "info", "warning":
		w.say("  lima: %s", e.Msg)
	case "error", "fatal":
		w.failure = e.Msg
	}
}
