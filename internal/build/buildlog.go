package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxLog bounds a build's log on disk; a build can say any amount.
const maxLog = 64 << 20

// logFile is the readable log of one build.
type logFile struct {
	f    *os.File
	left int64
	cut  bool
}

func openLog(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot open build log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open build log: %w", err)
	}
	return &logFile{f: f, left: maxLog}, nil
}

// Write drops what exceeds the bound, after saying so once.
func (l *logFile) Write(p []byte) (int, error) {
	if l.cut {
		return len(p), nil
	}
	if int64(len(p)) > l.left {
		l.cut = true
		_, err := fmt.Fprintf(l.f, "[the log is cut here: it exceeds %d MiB]\n", maxLog>>20)
		return len(p), err
	}
	l.left -= int64(len(p))
	return l.f.Write(p)
}

func (l *logFile) Close() error { return l.f.Close() }

// spoke says whether Nix got as far as saying anything.
func (l *nixLog) spoke() bool { return l.phase != PhaseContainer }

// lastWords are what an error shows of the log: the builders' last lines,
// unless Nix repeats them, and what Nix itself said.
func (l *nixLog) lastWords() string {
	said := withoutOwnFrames(strings.Join(l.errors, "\n"))
	var parts []string
	if n := len(l.tail); n > 0 && !strings.Contains(said, l.tail[n-1]) {
		parts = append(parts, l.tail...)
	}
	if said != "" {
		parts = append(parts, said)
	}
	if len(parts) == 0 {
		parts = l.noise
	}
	return strings.Join(parts, "\n")
}

// withoutOwnFrames leaves out the parts of an evaluation's stack trace that
// are in pick.nix, which the flake's author has never seen.
func withoutOwnFrames(text string) string {
	var kept []string
	for _, frame := range strings.Split(text, "\n\n") {
		if !strings.Contains(frame, "«string»") {
			kept = append(kept, frame)
		}
	}
	return strings.TrimSpace(strings.Join(kept, "\n\n"))
}
