package supervisor

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/auser/mvm/internal/logfile"
)

// TestTheOwnLogIsBounded: however much a supervisor has to say, its log and what
// is kept of it are bounded, hold the last lines in their order, and are where
// mvm tenant logs reads them; what is written past the logger goes there, too.
func TestTheOwnLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervisor.log")
	if err := os.WriteFile(oldLog(path), []byte("of another supervisor\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openOwnLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const most, lines = 4096, 1000
	log := slog.New(slog.NewTextHandler(&ownLog{f, path, most}, nil))
	for i := range lines {
		log.Info("started", "number", i)
	}
	if _, err := f.WriteString("panic: the end\n"); err != nil {
		t.Fatal(err)
	}
	var kept bytes.Buffer
	if err := logfile.Read(t.Context(), path, logfile.Options{Tail: -1, Stamp: LogTime}, &kept); err != nil {
		t.Fatal(err)
	}
	if kept.Len() < most || kept.Len() > 2*most {
		t.Errorf("%d bytes are kept, want %d to %d", kept.Len(), most, 2*most)
	}
	all := bytes.Split(bytes.TrimSuffix(kept.Bytes(), []byte("\n")), []byte("\n"))
	if last := all[len(all)-1]; string(last) != "panic: the end" {
		t.Errorf("the last line is %q", last)
	}
	for i, line := range all[:len(all)-1] {
		if want := fmt.Sprintf("number=%d", lines-len(all)+1+i); !bytes.HasSuffix(line, []byte(want)) {
			t.Errorf("line %d is %q, want %s", i, line, want)
		}
		if at, ok := LogTime(line); !ok || time.Since(at) > time.Hour {
			t.Errorf("line %q has no time", line)
		}
	}
}
