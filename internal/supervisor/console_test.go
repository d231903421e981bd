package supervisor

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/logfile"
)

func testConsole(t *testing.T) *console {
	t.Helper()
	log, err := logfile.Open(filepath.Join(t.TempDir(), "console.log"), 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return newConsole(log)
}

func TestASlowReaderDoesNotBlockTheGuest(t *testing.T) {
	c := testConsole(t)
	r, _ := c.attach(false)
	for range 1000 {
		if _, err := c.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-r.ch; string(got) != "line\n" {
		t.Errorf("got %q", got)
	}
	c.Write([]byte("more\n")) // there is room for one again
	for range cap(r.ch) - 1 {
		<-r.ch
	}
	if got := string(<-r.ch); !strings.Contains(got, "4680 bytes were too fast") || !strings.HasSuffix(got, "more\n") {
		t.Errorf("what was lost is not said: %q", got)
	}
	c.detach(r)
}

// typed is a keyboard that remembers.
type typed struct{ bytes.Buffer }

func (k *typed) Type(p []byte, _ time.Duration) error { k.Write(p); return nil }

func TestOneTypes(t *testing.T) {
	c := testConsole(t)
	guest := &typed{}
	first, may := c.attach(true)
	if !may {
		t.Error("the first may not type")
	}
	c.typed(first, []byte("lost: no guest runs\n"))
	c.plug(guest)
	viewer, may := c.attach(false)
	if may {
		t.Error("a viewer may type")
	}
	second, may := c.attach(true)
	if may {
		t.Error("two may type")
	}
	c.typed(viewer, []byte("viewer"))
	c.typed(second, []byte("second"))
	c.typed(first, []byte("first"))
	c.detach(first)
	c.typed(first, []byte("gone"))
	third, may := c.attach(true)
	if !may {
		t.Error("nobody may type after the first has left")
	}
	c.typed(third, []byte(" third"))
	if got := guest.String(); got != "first third" {
		t.Errorf("the guest heard %q", got)
	}
}

// TestAClientThatLooksAway keeps neither the guest nor the supervisor's end
// waiting.
func TestAClientThatLooksAway(t *testing.T) {
	s := &supervisor{console: testConsole(t), done: make(chan struct{})}
	fds := filepath.Join(t.TempDir(), "sock")
	l, err := listen(fds)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); serve(l, s.handle) }()
	conn, typing, err := Client{Socket: fds}.Console(t.Context(), true)
	if err != nil || !typing {
		t.Fatal(typing, err)
	}
	defer conn.Close()
	for range 1000 { // more than all buffers in between hold
		s.console.Write(bytes.Repeat([]byte("x"), 16<<10))
	}
	close(s.done)
	l.Close()
	select {
	case <-served:
	case <-time.After(4 * requestTimeout):
		t.Fatal("the supervisor waits for a client that does not read")
	}
}

// TestConsoleBothWays goes through the control socket as a client does.
func TestConsoleBothWays(t *testing.T) {
	s := &supervisor{console: testConsole(t), done: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s.console.plug(pipeKeyboard{w})
	path := filepath.Join(t.TempDir(), "sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go serve(l, s.handle)
	defer close(s.done)
	conn, typing, err := Client{Socket: path}.Console(t.Context(), true)
	if err != nil || !typing {
		t.Fatal(typing, err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := r.Read(buf); err != nil || string(buf) != "hello\n" {
		t.Fatalf("the guest heard %q, %v", buf, err)
	}
	s.console.Write([]byte("answer\n"))
	if got := readSome(t, conn, 7); got != "answer\n" {
		t.Errorf("heard %q", got)
	}
}

type pipeKeyboard struct{ w *os.File }

func (k pipeKeyboard) Type(p []byte, _ time.Duration) error { _, err := k.w.Write(p); return err }

func readSome(t *testing.T, conn net.Conn, n int) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, n)
	got, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:got])
}
