package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auser/mvm/internal/await"
)

func write(t *testing.T, w *Writer, text string) {
	t.Helper()
	if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

func opened(t *testing.T, path string, maxBytes int64, keep int) *Writer {
	t.Helper()
	w, err := Open(path, maxBytes, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func read(t *testing.T, path string, o Options) string {
	t.Helper()
	var b strings.Builder
	if err := Read(t.Context(), path, o, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := opened(t, path, 1000, 2)
	for range 100 {
		write(t, w, strings.Repeat("x", 99))
		w.stamped = time.Time{} // as if each came in a second of its own
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 6 {
		t.Fatalf("files = %v, err = %v", files, err)
	}
	for _, f := range files {
		limit := int64(1000)
		if strings.HasSuffix(f, timesSuffix) {
			limit = 256 + 64
		}
		if info, err := os.Stat(f); err != nil || info.Size() > limit {
			t.Errorf("%s: %v, %v", f, info.Size(), err)
		}
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	w := opened(t, "/dev/full", 1<<20, 1)
	t.Cleanup(func() { os.Remove("/dev/full" + timesSuffix) })
	write(t, w, "gone")
	if w.lost != 4 {
		t.Errorf("lost = %d", w.lost)
	}
	// the disk has room again
	path := filepath.Join(t.TempDir(), "log")
	w.close()
	w.path = path
	write(t, w, "here")
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte("4 bytes")) || !bytes.HasSuffix(data, []byte("here")) {
		t.Errorf("log = %q, err = %v", data, err)
	}
}

// age makes everything that was written so far older.
func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f, timesSuffix) {
			info, err := os.Stat(f)
			if err == nil {
				err = os.Chtimes(f, time.Time{}, info.ModTime().Add(-by))
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		head, moments, err := readIndex(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range moments {
			head += entry(m.time.Add(-by), m.offset)
		}
		if err := os.WriteFile(f, []byte(head), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSince(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := opened(t, path, 40, 3)
	for i := range 6 { // two rotations
		write(t, w, fmt.Sprintf("first %d\nsecond %d\n", i, i))
		age(t, path, time.Hour)
		w.stamped = w.stamped.Add(-time.Hour)
	}
	all := read(t, path, Options{Tail: -1})
	if want := "first 0\nsecond 0\nfirst 1\nsecond 1\n"; !strings.HasPrefix(all, want) || !strings.HasSuffix(all, "second 5\n") {
		t.Errorf("all = %q", all)
	}
	now := time.Now()
	for hours, want := range map[time.Duration]string{
		30: "first 5\n", 90: "first 5\n", 150: "first 4\n", 270: "first 2\n", 1000: "first 0\n",
	} {
		got := read(t, path, Options{Since: now.Add(-hours * time.Minute), Tail: -1})
		if hours == 30 {
			want = ""
			if got != "" {
				t.Errorf("since %d min: %q", hours, got)
			}
			continue
		}
		if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "second 5\n") {
			t.Errorf("since %d min: %q, want it from %q", hours, got, want)
		}
	}
	if got := read(t, path, Options{Since: now.Add(-150 * time.Minute), Tail: 1}); got != "second 5\n" {
		t.Errorf("the last line since then: %q", got)
	}
	if got := read(t, path, Options{Since: now.Add(-90 * time.Minute), Tail: 100}); got != "first 5\nsecond 5\n" {
		t.Errorf("a tail longer than what is since then: %q", got)
	}
}

// TestSinceWhenTheClockJumps: what was written since then is never left out,
// whichever way the clock was set meanwhile; there may be more of it.
func TestSinceWhenTheClockJumps(t *testing.T) {
	for name, by := range map[string]time.Duration{"back": time.Hour, "forward": -time.Hour} {
		path := filepath.Join(t.TempDir(), "log")
		w := opened(t, path, 1000, 3)
		write(t, w, "before\n")
		age(t, path, -by) // as if it had been written by the other clock
		w.stamped = w.stamped.Add(by)
		write(t, w, "after\n")
		if _, moments, err := readIndex(path + timesSuffix); err != nil || len(moments) != 2 {
			t.Errorf("%s: the index has %v, %v, want both moments", name, moments, err)
		}
		for _, ago := range []time.Duration{time.Minute, 2 * time.Hour} {
			if got := read(t, path, Options{Since: time.Now().Add(-ago), Tail: -1}); !strings.HasSuffix(got, "after\n") {
				t.Errorf("set %s, since %s ago: %q", name, ago, got)
			}
		}
	}
}

// TestGoesOn opens the log of a writer that was killed amid an entry.
func TestGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := opened(t, path, 1<<20, 1)
	write(t, w, "before\n")
	w.index.WriteString("2026-01-0")
	w.Close()
	age(t, path, time.Hour)
	f, err := os.OpenFile(path+timesSuffix, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("2026-01-0")
	f.Close()
	w = opened(t, path, 1<<20, 1)
	write(t, w, "after\n")
	if got := read(t, path, Options{Since: time.Now().Add(-time.Minute), Tail: -1}); got != "after\n" {
		t.Errorf("got %q", got)
	}
}

// TestWithoutTimes reads logs that mvm keeps no index of.
func TestWithoutTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("time=1 a\n  more\ntime=2 b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if got := read(t, path, Options{Since: hourAgo, Tail: -1}); !strings.HasPrefix(got, "time=1") {
		t.Errorf("got %q", got)
	}
	if got := read(t, path, Options{Since: time.Now().Add(time.Hour), Tail: -1}); got != "" {
		t.Errorf("got %q", got)
	}
	stamp := func(line []byte) (time.Time, bool) {
		if bytes.HasPrefix(line, []byte("time=2")) {
			return time.Now(), true
		}
		return time.Unix(1, 0), bytes.HasPrefix(line, []byte("time="))
	}
	if got := read(t, path, Options{Since: hourAgo, Tail: -1, Stamp: stamp}); got != "time=2 b\n" {
		t.Errorf("got %q", got)
	}
	if err := Read(t.Context(), path+"none", Options{}, &strings.Builder{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a log that is not there: %v", err)
	}
}

func TestTail(t *testing.T) {
	var text strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	for _, c := range []struct {
		older, text string
		n           int
		want        string
	}{
		{"", "a\nb\nc\n", 2, "b\nc\n"}, {"", "a\nb\nc", 2, "b\nc"}, {"", "a\n", 5, "a\n"}, {"", "a\nb\n", 0, ""}, {"", "a\nb\n", -1, "a\nb\n"}, {"", "", 3, ""},
		{"", text.String(), 15000, text.String()[strings.Index(text.String(), "line 5000\n"):]},
		{"a\nb\n", "c\n", 2, "b\nc\n"}, {"a\nb", "b\nc\n", 2, "bb\nc\n"}, {"a\nb\n", "", 1, "b\n"}, {"a\nb\n", "c\n", 0, ""},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.older != "" {
			if err := os.WriteFile(path+".1", []byte(c.older), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(t, path, Options{Tail: c.n}); got != c.want {
			t.Errorf("last %d of %.20q: %.40q", c.n, c.older+c.text, got)
		}
	}
}

// heard collects what is written and lets a test wait for it.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) waitFor(t *testing.T, want string) {
	t.Helper()
	await.Until(t, 10*time.Second, func() (bool, string) {
		h.mu.Lock()
		got := h.text.String()
		h.mu.Unlock()
		return got == want, fmt.Sprintf("heard %.200q, want %.200q", got, want)
	})
}

// TestFollow follows a log from before it exists through many rotations, several
// of them between two looks.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithCancel(t.Context())
	out := &heard{}
	ended := make(chan error)
	go func() { ended <- Read(ctx, path, Options{Tail: -1, Follow: true}, out) }()
	w := opened(t, path, 100, 20)
	var want strings.Builder
	for round := range 4 {
		for i := range 100 { // 12 rotations or so
			line := fmt.Sprintf("round %d %d\n", round, i)
			want.WriteString(line)
			write(t, w, line)
		}
		out.waitFor(t, want.String())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
