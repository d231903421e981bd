package firecracker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/vmm"
)

// serve answers every connection with one text and returns what was asked.
func serve(t *testing.T, path, answer string) <-chan string {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked := make(chan string, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			n, _ := bufio.NewReader(conn).Read(buf)
			asked <- string(buf[:n])
			io.WriteString(conn, answer)
			conn.Close()
		}
	}()
	return asked
}

func TestAPI(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	asked := serve(t, socket, "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"state\":\"Running\"}")
	v := &machine{api: api{socket, os.Getuid()}, process: &vmm.Process{}}
	if status, err := v.Status(t.Context()); err != nil || status != vmm.Running {
		t.Errorf("Status = %s, %v", status, err)
	}
	if got := <-asked; !strings.HasPrefix(got, "GET / HTTP/1.1\r\n") {
		t.Errorf("asked %q", got)
	}
	if err := v.Pause(t.Context()); err != nil {
		t.Error(err)
	}
	if got := <-asked; !strings.HasPrefix(got, "PATCH /vm HTTP/1.1\r\n") || !strings.HasSuffix(got, "\r\n\r\n{\"state\":\"Paused\"}") {
		t.Errorf("asked %q", got)
	}
}

func TestResize(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	asked := serve(t, socket, "HTTP/1.1 204 No Content\r\n\r\n")
	v := &machine{api: api{socket, os.Getuid()}, drives: []fcconfig.Drive{{DriveID: "data", PathOnHost: "/data.ext4"}}}
	if err := v.Resize(t.Context(), "data", 1<<30); err != nil {
		t.Error(err)
	}
	if got := <-asked; !strings.HasPrefix(got, "PATCH /drives/data HTTP/1.1\r\n") ||
		!strings.HasSuffix(got, `{"drive_id":"data","path_on_host":"/data.ext4"}`) {
		t.Errorf("asked %q", got)
	}
	if err := v.Resize(t.Context(), "other", 1<<30); err == nil {
		t.Error("a drive that is not there is resized")
	}
}

func TestAPIFailures(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"fault":      {"HTTP/1.1 400 Bad Request\r\nContent-Length: 24\r\n\r\n{\"fault_message\":\"not so\"}", "not so"},
		"HTTP error": {"HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{\"error\":\"none\"}", "none (HTTP 404)"},
		"no HTTP":    {"hello\r\n\r\n", "no answer"},
		"cut short":  {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "unexpected EOF"},
		"too large":  {"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "99999999 bytes"},
		"endless":    {"HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 20_000), ""},
		"nothing":    {"", "no answer"},
	} {
		socket := filepath.Join(t.TempDir(), "s")
		serve(t, socket, c.answer)
		var out any
		if err := (api{socket, os.Getuid()}).get(t.Context(), "/", &out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func TestAPIGivesUpWithItsContext(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (api{socket, os.Getuid()}).call(ctx, "GET", "/", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

// TestAPITrustsNoName: what a broken-out VMM leaves in its folder is not
// followed to other sockets.
func TestAPITrustsNoName(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	asked := serve(t, real, "HTTP/1.1 204 No Content\r\n\r\n")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range []api{{link, os.Getuid()}, {file, os.Getuid()}, {real, 12345}} {
		if _, err := a.call(t.Context(), "PUT", "/actions", []byte("{}")); err == nil {
			t.Errorf("%+v is talked to", a)
		}
	}
	select {
	case got := <-asked:
		if got != "" {
			t.Errorf("the wrong socket was asked %q", got)
		}
	default:
	}
}

func TestJailerArgs(t *testing.T) {
	got := jailerArgs(vmm.Machine{ID: "acme", UID: 900010, GID: 900010}, "/opt/firecracker", "/run/mvm/jail")
	want := strings.Fields("--id acme --exec-file /opt/firecracker --uid 900010 --gid 900010 --chroot-base-dir /run/mvm/jail " +
		"--resource-limit no-file=1024 -- --api-sock /run/firecracker.socket --config-file /fc.final.json " +
		"--log-path /run/firecracker.log --level Info --metrics-path /run/firecracker.metrics")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFIFOHandsOnEverything(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "log")); err != nil { // left by the one before
		t.Fatal(err)
	}
	f, err := openFIFO(dir, "log", os.Getuid(), os.Getgid(), &out)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(filepath.Join(dir, "log"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "line\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	f.finish()
	if out.String() != "line\n" {
		t.Errorf("handed on %q", out.String())
	}
}

func TestStartWatch(t *testing.T) {
	var out strings.Builder
	w := &startWatch{to: &out, started: make(chan struct{})}
	for _, part := range []string{"a\nSuccess", "fully started mic", "rovm that", " was\nSuccessfully started microvm"} {
		select {
		case <-w.started:
			if part == "rovm that" {
				t.Error("started too early")
			}
		default:
		}
		io.WriteString(w, part)
	}
	select {
	case <-w.started:
	default:
		t.Error("the start goes unseen")
	}
	if !strings.HasPrefix(out.String(), "a\nSuccessfully started microvm that") {
		t.Errorf("handed on %q", out.String())
	}
}
