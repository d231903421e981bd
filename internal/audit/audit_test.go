package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func record(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.jsonl")
	for range n {
		if err := Append(path, Entry{Act: "run", Tenant: "acme", Result: OK, Detail: map[string]any{"long": strings.Repeat("x", 5000)}}); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestChainHolds(t *testing.T) {
	path := record(t, 3)
	n, head, err := Verify(path)
	if err != nil || n != 3 || len(head) != 64 {
		t.Fatalf("n = %d, head = %q, err = %v", n, head, err)
	}
	entries, err := Read(path)
	if err != nil || len(entries) != 3 || entries[2].Seq != 3 {
		t.Fatalf("entries = %v, err = %v", entries, err)
	}
}

func TestTamperingShows(t *testing.T) {
	for name, tamper := range map[string]func(lines [][]byte) [][]byte{
		"edit":       func(l [][]byte) [][]byte { l[1] = bytes.Replace(l[1], []byte("acme"), []byte("evil"), 1); return l },
		"cut inside": func(l [][]byte) [][]byte { return append(l[:1], l[2:]...) },
		"cut front":  func(l [][]byte) [][]byte { return l[1:] },
		"swap":       func(l [][]byte) [][]byte { l[0], l[1] = l[1], l[0]; return l },
		"cut end":    func(l [][]byte) [][]byte { return l[:2] },
		"cut all":    func(l [][]byte) [][]byte { return nil },
		"edit end":   func(l [][]byte) [][]byte { l[2] = bytes.Replace(l[2], []byte("acme"), []byte("evil"), 1); return l },
		"garbage":    func(l [][]byte) [][]byte { l[1] = []byte("hello\n"); return l },
	} {
		path := record(t, 3)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := tamper(bytes.SplitAfter(data, []byte("\n")))
		if err := os.WriteFile(path, bytes.Join(lines, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		var broken *BrokenError
		if _, _, err := Verify(path); !errors.As(err, &broken) {
			t.Errorf("%s: err = %v, want a BrokenError", name, err)
		}
		// What is added later does not heal it.
		if err := Append(path, Entry{Act: "stop", Result: OK}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Verify(path); !errors.As(err, &broken) {
			t.Errorf("%s: after another act: err = %v, want a BrokenError", name, err)
		}
	}
}

// TestADamagedLineIsNamed, so that it can be found; what is whole is gone on
// with.
func TestADamagedLineIsNamed(t *testing.T) {
	path := record(t, 2)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for last, damaged := range map[bool][]byte{
		false: slices.Concat([]byte("hello\n"), lines[1]),
		true:  slices.Concat(lines[0], []byte("hello\n")),
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		var named *DamagedError
		if _, err := Read(path); !errors.As(err, &named) || !strings.Contains(err.Error(), path+" line ") {
			t.Errorf("err = %v, want a DamagedError that names file and line", err)
		}
		if err := Append(path, Entry{Act: "stop", Result: OK}); last != errors.As(err, &named) {
			t.Errorf("the last line is damaged: %v; err = %v", last, err)
		}
	}
}

func TestAWriteCutShortIsTakenAway(t *testing.T) {
	for _, n := range []int{0, 2} {
		path := record(t, n)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(`{"seq":9,"ac`); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := Append(path, Entry{Act: "stop", Result: OK}); err != nil {
			t.Fatal(err)
		}
		if got, _, err := Verify(path); err != nil || got != n+1 {
			t.Errorf("n = %d, err = %v", got, err)
		}
	}
}

// TestAMissingHeadShows, whether or not the end went with it, and also after
// more was written.
func TestAMissingHeadShows(t *testing.T) {
	for _, keep := range []int{1, 2, 3} {
		path := record(t, 3)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Join(bytes.SplitAfter(data, []byte("\n"))[:keep], nil), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(headFile(path)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			var broken *BrokenError
			if n, _, err := Verify(path); !errors.As(err, &broken) {
				t.Errorf("%d of 3 lines, now %d: err = %v, want a BrokenError", keep, n, err)
			}
			if err := Append(path, Entry{Act: "stop", Result: OK}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAFirstEntryCutShortIsFine: whatever the writer of a record's first entry
// left when it was killed, no record seems cut.
func TestAFirstEntryCutShortIsFine(t *testing.T) {
	path := record(t, 1)
	line, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		head   bool
		record []byte
	}{
		{"the file", false, nil}, {"and the head", true, nil}, {"and a part of the line", true, line[:9]}, {"and the line", true, line},
	} {
		path := filepath.Join(t.TempDir(), "a.jsonl")
		if err := os.WriteFile(path, c.record, 0o600); err != nil {
			t.Fatal(err)
		}
		if c.head {
			if err := writeHead(path, Head{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if n, _, err := Verify(path); err != nil {
				t.Errorf("%s: %d lines, %v", c.what, n, err)
			}
			if err := Append(path, Entry{Act: "run", Result: OK}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestVerifyBesideTheFirstEntry: who looks while the first entry is written sees
// none, or a whole one.
func TestVerifyBesideTheFirstEntry(t *testing.T) {
	for range 50 {
		path := record(t, 0)
		written := make(chan error)
		go func() { written <- Append(path, Entry{Act: "create", Result: OK}) }()
		for n := 0; n == 0; {
			var err error
			if n, _, err = Verify(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
}

// A writer that is killed between the line and the head leaves a head that is
// behind; the record holds, and goes on.
func TestAHeadThatIsBehindIsFine(t *testing.T) {
	path := record(t, 2)
	behind, err := os.ReadFile(headFile(path))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Append(path, Entry{Act: "run", Result: OK}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(headFile(path), behind, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, err := Verify(path); err != nil || n != 4 {
		t.Errorf("n = %d, err = %v", n, err)
	}
}

// TestAClockThatWasSetBack breaks no chain: it goes by numbers, not by times.
func TestAClockThatWasSetBack(t *testing.T) {
	path := record(t, 1)
	entries, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	entries[0].Time = entries[0].Time.Add(48 * time.Hour)
	line, err := json.Marshal(entries[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(line, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeHead(path, Head{1, hash(line)}); err != nil {
		t.Fatal(err)
	}
	if err := Append(path, Entry{Act: "stop", Tenant: "acme", Result: OK}); err != nil {
		t.Fatal(err)
	}
	if n, _, err := Verify(path); err != nil || n != 2 {
		t.Errorf("n = %d, err = %v", n, err)
	}
	entries, err = Read(path)
	if err != nil || len(entries) != 2 || entries[1].Act != "stop" || !entries[1].Time.Before(entries[0].Time) {
		t.Errorf("entries = %v, err = %v", entries, err)
	}
}

func TestSudoUserIsNamed(t *testing.T) {
	t.Setenv("SUDO_USER", "alice")
	entries, err := Read(record(t, 1))
	if err != nil || len(entries) != 1 || entries[0].SudoBy != "alice" || entries[0].UID != os.Getuid() {
		t.Errorf("entries = %+v, err = %v", entries, err)
	}
}

func TestWritersTakeTurns(t *testing.T) {
	path := record(t, 0)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if err := Append(path, Entry{Act: "x", Result: OK}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, _, err := Verify(path); err != nil || n != 30 {
		t.Errorf("n = %d, err = %v", n, err)
	}
}
