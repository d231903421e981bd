package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

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
	for deadline := time.Now().Add(10 * time.Second); ; {
		h.mu.Lock()
		got := h.text.String()
		h.mu.Unlock()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("heard %q, want %q", got, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestFollow follows a log from before it exists through a rotation.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	ctx, cancel := context.WithCancel(t.Context())
	out := &heard{}
	ended := make(chan error)
	go func() { ended <- followLog(ctx, path, nil, -1, out) }()
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	out.waitFor(t, "one\n")
	write("two\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("three\n")
	out.waitFor(t, "one\ntwo\nthree\n")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTail(t *testing.T) {
	var text strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc", 2, "b\nc"}, {"a\n", 5, "a\n"}, {"a\nb\n", 0, ""}, {"a\nb\n", -1, "a\nb\n"}, {"", 3, ""},
		{text.String(), 15000, text.String()[strings.Index(text.String(), "line 5000\n"):]},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := seekTail(f, c.n); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		if _, err := f.WriteTo(&got); err != nil || got.String() != c.want {
			t.Errorf("last %d of %.20q: %.40q, %v", c.n, c.text, got.String(), err)
		}
	}
}

// TestPlain is a guest that would like to command the operator's terminal.
func TestPlain(t *testing.T) {
	var b strings.Builder
	if _, err := (&plainWriter{&b}).Write([]byte("ok\x1b]0;title\x07\x1b[2J\u009b31m\r\n\tgrüße\n")); err != nil {
		t.Fatal(err)
	}
	if want := "ok]0;title[2J31m\n\tgrüße\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
