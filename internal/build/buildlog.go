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

// lastWords are what an error shows of the log: what Nix said, after the last
// lines of the builders where Nix does not repeat them.
func (l *nixLog) lastWords() string {
	var parts []string
	said := strings.Join(l.errors, "\n")
	if len(l.tail) > 0 && !strings.Contains(said, "last 10 log lines") {
		parts = append(parts, strings.Join(l.tail, "\n"))
	} else if len(l.tail) > 0 && !strings.Contains(said, l.tail[len(l.tail)-1]) {
		parts = append(parts, strings.Join(l.tail, "\n"))
	}
	if said != "" {
		parts = append(parts, said)
	}
	if len(parts) == 0 {
		parts = l.noise
	}
	return strings.Join(parts, "\n")
}
