package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
)

// The control socket speaks one line of JSON each way: a request, then
// replies until one has Done set. After the reply to a request for the console,
// the connection carries its bytes.

// request is what a client asks for.
type request struct {
	Do      string        `json:"do"` // stop, answers, console, counters, pause, resume, grow, grow-volume, push-secrets
	Timeout time.Duration `json:"timeout,omitempty"`
	Size    int64         `json:"size,omitempty"`  // bytes of the volume
	Mount   string        `json:"mount,omitempty"` // of the volume; the data's for grow
	Input   bool          `json:"input,omitempty"` // the client would like to type
}

// Reply is one answer.
type Reply struct {
	Text   string `json:"text,omitempty"` // what is being done, for people
	Done   bool   `json:"done,omitempty"`
	Typing bool   `json:"typing,omitempty"` // what the client types reaches the guest
	Error  string `json:"error,omitempty"`
	Absent bool   `json:"absent,omitempty"` // the error is that there is no VM

	Counters *vmm.Counters `json:"counters,omitempty"`
}

// ErrNoSupervisor means that nothing listens on the control socket.
var ErrNoSupervisor = errors.New("no supervisor answers")

// AbsentError says why there is no VM to ask.
type AbsentError struct{ Why string }

func (e *AbsentError) Error() string { return e.Why }

// done is the answer to what has ended so.
func done(err error) Reply {
	r := Reply{Done: true}
	if err != nil {
		r.Error = err.Error()
		var absent absence
		r.Absent = errors.As(err, &absent)
	}
	return r
}

// failure is the error in an answer.
func (r Reply) failure() error {
	switch {
	case r.Absent:
		return &AbsentError{r.Error}
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}

// whileThere lasts until the client hangs up, who has nothing more to say.
func whileThere(conn net.Conn) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		conn.Read(make([]byte, 1)) // ends with the connection, at the latest after the answer
	}()
	return ctx, cancel
}

// requestTimeout bounds how long a client may take to say what it wants.
const requestTimeout = 5 * time.Second

func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot remove a stale control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for control: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// acceptPause is how long nobody is let in after a client could not be.
const acceptPause = 100 * time.Millisecond

// serve answers clients until l is closed and the last of them has its answer.
func serve(l *net.UnixListener, handle func(request, *net.UnixConn)) {
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return // the supervisor is on its way out
		}
		if err != nil { // too many clients: some will have left by then
			time.Sleep(acceptPause)
			continue
		}
		clients.Go(func() {
			defer conn.Close()
			req, err := readRequest(conn) // also a stranger's: on a connection closed unread they miss the answer
			if refused := checkPeer(conn); refused != nil {
				err = refused
			}
			if err != nil {
				reply(conn, Reply{Done: true, Error: err.Error()})
				return
			}
			handle(req, conn)
		})
	}
}

// checkPeer admits this process's own user only. The socket's mode says the
// same; this holds even if somebody changes that.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("cannot tell who asks: %w", credErr)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d may not control this tenant", cred.Uid)
	}
	return nil
}

func readRequest(conn net.Conn) (request, error) {
	var req request
	if err := conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return req, err
	}
	line, err := readLine(conn)
	if err != nil {
		return req, fmt.Errorf("cannot read the request: %w", err)
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return req, fmt.Errorf("cannot understand the request: %w", err)
	}
	return req, conn.SetReadDeadline(time.Time{})
}

// readLine reads byte by byte, so that nothing behind the line is swallowed: it
// is the console's.
func readLine(conn net.Conn) ([]byte, error) {
	line := make([]byte, 0, 128)
	for b := make([]byte, 1); ; {
		if _, err := conn.Read(b); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return line, nil
		}
		if line = append(line, b[0]); len(line) > 4096 {
			return nil, errors.New("the line is too long")
		}
	}
}

// reply sends r. A client that went away, or does not read, does not matter to
// the supervisor.
func reply(conn net.Conn, r Reply) {
	line, err := json.Marshal(r)
	if err == nil && conn.SetWriteDeadline(time.Now().Add(requestTimeout)) == nil {
		conn.Write(append(line, '\n'))
	}
}

// Client talks to a supervisor.
type Client struct{ Socket string }

// Stop asks the supervisor to stop the guest and returns when everything with
// the VM's lifetime is gone. said is told what is being done.
func (c Client) Stop(ctx context.Context, timeout time.Duration, said func(string)) error {
	return c.do(ctx, request{Do: "stop", Timeout: timeout}, said)
}

// Answers tells that the guest does: others may boot.
func (c Client) Answers(ctx context.Context) error {
	return c.do(ctx, request{Do: "answers"}, nil)
}

// Pause stops the guest's vCPUs until Resume.
func (c Client) Pause(ctx context.Context) error {
	return c.do(ctx, request{Do: "pause"}, nil)
}

// Resume lets a paused guest go on.
func (c Client) Resume(ctx context.Context) error {
	return c.do(ctx, request{Do: "resume"}, nil)
}

// Grow makes the volume at mount size bytes large and shows the guest. Its file
// system stays as it is.
func (c Client) Grow(ctx context.Context, mount string, size int64) error {
	if mount == tenant.DataMount {
		return c.do(ctx, request{Do: "grow", Size: size}, nil)
	}
	// A supervisor of an earlier version knows of no mount, and would grow the
	// data: it refuses a word that it does not know.
	return c.do(ctx, request{Do: "grow-volume", Mount: mount, Size: size}, nil)
}

// Console returns a connection that carries the console's bytes. With input,
// what is written to it is typed in the guest, unless somebody else types
// already: typing says so.
func (c Client) Console(ctx context.Context, input bool) (conn net.Conn, typing bool, err error) {
	conn, err = c.send(ctx, request{Do: "console", Input: input})
	if err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	line, err := readLine(conn)
	var r Reply
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("cannot attach to the console: %w", err), conn.Close())
	}
	return conn, r.Typing, nil
}

// Counters asks what the VMM has counted of its guest.
func (c Client) Counters(ctx context.Context) (vmm.Counters, error) {
	r, err := c.ask(ctx, request{Do: "counters"}, nil)
	if err == nil && r.Counters == nil {
		err = errors.New("it counts nothing")
	}
	if err != nil {
		return vmm.Counters{}, err
	}
	return *r.Counters, nil
}

func (c Client) send(ctx context.Context, req request) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSupervisor, err)
	}
	line, err := json.Marshal(req)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot ask the supervisor: %w", err), conn.Close())
	}
	return conn, nil
}

func (c Client) do(ctx context.Context, req request, said func(string)) error {
	_, err := c.ask(ctx, req, said)
	return err
}

// ask returns the last reply. said is told what is being done until then.
func (c Client) ask(ctx context.Context, req request, said func(string)) (Reply, error) {
	conn, err := c.send(ctx, req)
	if err != nil {
		return Reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	replies := bufio.NewScanner(conn)
	for replies.Scan() {
		var r Reply
		if err := json.Unmarshal(replies.Bytes(), &r); err != nil {
			return r, fmt.Errorf("cannot understand the supervisor: %w", err)
		}
		if r.Text != "" && said != nil {
			said(r.Text)
		}
		if err := r.failure(); err != nil || r.Done {
			return r, err
		}
	}
	if ctx.Err() != nil {
		return Reply{}, ctx.Err()
	}
	return Reply{}, fmt.Errorf("%w: it ended without an answer", ErrNoSupervisor)
}

// PushSecrets gives the guest the secrets as they are now. Once the supervisor
// was asked it does so whether or not ctx ends.
func (c Client) PushSecrets(ctx context.Context) error {
	return c.do(ctx, request{Do: "push-secrets"}, nil)
}
