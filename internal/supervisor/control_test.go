package supervisor

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/vmm"
)

// TestOnlyItsOwnUserControls: another user's request is refused for who they
// are, even where the socket's mode would let them in.
func TestOnlyItsOwnUserControls(t *testing.T) {
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "control.sock")
	l, err := listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	handled, served := make(chan request, 2), make(chan struct{})
	go func() {
		defer close(served)
		serve(l, func(req request, conn *net.UnixConn) {
			handled <- req
			reply(conn, Reply{Done: true})
		})
	}()
	for path, mode := range map[string]os.FileMode{dir: 0o711, socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}

	stop := func() error { return Client{socket}.Stop(t.Context(), time.Second, nil) }
	if err := asUser(65534, stop); err == nil || !strings.Contains(err.Error(), "uid 65534 may not control this tenant") {
		t.Errorf("another user asked for a stop: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("its own user was refused: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
	if n := len(handled); n != 1 {
		t.Errorf("%d requests were handled, want its own user's only", n)
	}
}

// asUser does something on a thread of that user. The thread ends with it: the
// system call, other than Go's function, changes no other one.
func asUser(uid uintptr, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
			done <- errno
			return
		}
		done <- do()
	}()
	return <-done
}

// TestTooManyClients: a supervisor that has run out of files for its clients
// hears those that come when there are some again.
func TestTooManyClients(t *testing.T) {
	l, err := listen(filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(l, func(_ request, conn *net.UnixConn) { reply(conn, Reply{Done: true}) })
	}()
	for range 10 {
		free := takeAllFiles(t)
		free[0].Close()
		asked := make(chan error, 1)
		go func() { asked <- Client{l.Addr().String()}.Pause(t.Context()) }()
		for range 1000 { // it has come, and cannot be let in
			runtime.Gosched()
		}
		for _, f := range free {
			f.Close()
		}
		if err := <-asked; err != nil {
			t.Errorf("nobody answered: %v", err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
}

// takeAllFiles leaves this process without a descriptor to use.
func takeAllFiles(t *testing.T) (taken []*os.File) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, unix.EMFILE) {
			return taken
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, f)
	}
}

// TestCountersCome: what the VMM has counted reaches the client, and that it
// counts nothing.
func TestCountersCome(t *testing.T) {
	dir, err := os.MkdirTemp("", "control") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := listen(filepath.Join(dir, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	counted := &vmm.Counters{Disks: map[string]vmm.DiskCounters{"data": {Reads: 3}}}
	answers := make(chan *vmm.Counters, 2)
	answers <- counted
	answers <- nil
	go serve(l, func(_ request, conn *net.UnixConn) { reply(conn, Reply{Done: true, Counters: <-answers}) })
	client := Client{filepath.Join(dir, "control.sock")}
	if got, err := client.Counters(t.Context()); err != nil || got.Disks["data"] != counted.Disks["data"] {
		t.Errorf("counted %+v, %v", got, err)
	}
	if _, err := client.Counters(t.Context()); err == nil || err.Error() != "it counts nothing" {
		t.Errorf("without any: %v", err)
	}
}

// TestGrowthIsNotMistaken: a supervisor of an earlier version, which runs on
// after an upgrade, grows the data at the word grow, whatever else is said.
func TestGrowthIsNotMistaken(t *testing.T) {
	l, err := listen(filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	asked, served := make(chan request, 1), make(chan struct{})
	go func() {
		defer close(served)
		serve(l, func(req request, conn *net.UnixConn) {
			asked <- req
			reply(conn, Reply{Done: true})
		})
	}()
	for mount, want := range map[string]request{
		"/data": {Do: "grow", Size: 1 << 20},
		"/work": {Do: "grow-volume", Mount: "/work", Size: 1 << 20},
	} {
		if err := (Client{l.Addr().String()}).Grow(t.Context(), mount, 1<<20); err != nil {
			t.Error(err)
		}
		if got := <-asked; got != want {
			t.Errorf("%s: asked for %+v, want %+v", mount, got, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
}
