package firecracker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// api is Firecracker's HTTP interface on a Unix socket. It is this small by
// choice: net/http would be the larger part of a supervisor.
//
// The socket lies in a folder that belongs to the VMM's user, so what is found
// there is not trusted to be the VMM's: it must be a socket, no link to one,
// and its other end must run as that user.
type api struct {
	socket string
	uid    int
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// callDeadline bounds a call that its context does not bound.
const callDeadline = 10 * time.Second

// fault is what Firecracker answers to what it refuses.
type fault struct {
	status  int
	message string
}

func (f *fault) Error() string { return fmt.Sprintf("%s (HTTP %d)", f.message, f.status) }

func (a api) get(ctx context.Context, path string, into any) error {
	body, err := a.call(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

func (a api) send(ctx context.Context, method, path string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = a.call(ctx, method, path, body)
	return err
}

// call makes one request on a connection of its own.
func (a api) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	conn, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer, err := exchange(conn, method, path, body)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, err
}

func exchange(conn io.ReadWriter, method, path string, body []byte) ([]byte, error) {
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", method, path)
	if body != nil {
		fmt.Fprintf(&request, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	request.WriteString("\r\n")
	request.Write(body)
	if _, err := conn.Write(request.Bytes()); err != nil {
		return nil, err
	}
	status, answer, err := readAnswer(bufio.NewReader(io.LimitReader(conn, maxAnswer)))
	if err != nil {
		return nil, err
	}
	if status < 200 || status > 299 {
		return nil, &fault{status, faultMessage(answer)}
	}
	return answer, nil
}

func readAnswer(r *bufio.Reader) (status int, body []byte, err error) {
	text := textproto.NewReader(r)
	line, err := text.ReadLine()
	if err != nil {
		return 0, nil, fmt.Errorf("no answer: %w", err)
	}
	words := strings.SplitN(line, " ", 3)
	if len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") {
		return 0, nil, fmt.Errorf("%q is no answer", line)
	}
	if status, err = strconv.Atoi(words[1]); err != nil {
		return 0, nil, fmt.Errorf("%q is no answer", line)
	}
	header, err := text.ReadMIMEHeader()
	if err != nil {
		return 0, nil, err
	}
	length, err := strconv.Atoi(header.Get("Content-Length"))
	if err != nil || length <= 0 {
		return status, nil, nil // 204 has none
	}
	if length > maxAnswer {
		return 0, nil, fmt.Errorf("an answer of %d bytes", length)
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return status, body, err
}

// faultMessage reads either form that Firecracker's errors have.
func faultMessage(answer []byte) string {
	var f struct {
		Fault string `json:"fault_message"`
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &f) == nil && f.Fault+f.Error != "" {
		return f.Fault + f.Error
	}
	return string(answer)
}

func (a api) dial(ctx context.Context) (net.Conn, error) {
	// Held open by what it is, not by its name: the name may change hands
	// between a look and a connect, and may be longer than a socket's may.
	fd, err := unix.Open(a.socket, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s is no socket", a.socket)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, err
	}
	if err := a.checkPeer(conn.(*net.UnixConn)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (a api) checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if peerErr != nil {
		return peerErr
	}
	if int(peer.Uid) != a.uid {
		return fmt.Errorf("%s is user %d's, want %d's", a.socket, peer.Uid, a.uid)
	}
	return nil
}
