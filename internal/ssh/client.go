package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// ErrNoStatus is inside the error of Exec when the guest took the command and
// the connection then ended without a word of how the command did. After
// reboot or poweroff that is what success looks like.
var ErrNoStatus = errors.New("the connection ended before the command's status came")

// ExitError is a remote command that ended with a failure.
type ExitError struct {
	Code   int // 0 where a signal ended the command
	Signal string
	Output string
}

func (e *ExitError) Error() string {
	msg := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != "" {
		msg = "killed by SIG" + e.Signal
	}
	if e.Output != "" {
		msg += ": " + e.Output
	}
	return msg
}

// Probe reports whether the guest answers on SSH: it shows the pinned host
// key and lets the tenant's key in. It makes one attempt and is for a caller
// that repeats it under a deadline.
func Probe(ctx context.Context, t Target) error {
	c, err := dial(ctx, t)
	if err != nil {
		return err
	}
	c.close()
	return nil
}

// Exec runs argv in the guest without the system's ssh client and returns the
// first of what it wrote.
func Exec(ctx context.Context, t Target, argv ...string) (string, error) {
	c, err := dial(ctx, t)
	if err != nil {
		return "", err
	}
	defer c.close()
	out, err := c.exec(Quote(argv))
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return out, fmt.Errorf("cannot run %s in %s: %w", argv[0], t.ID, err)
	}
	return out, nil
}

func (c *client) exec(line string) (string, error) {
	session, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	out := &headWriter{max: 16 << 10}
	session.Stdout, session.Stderr = out, out
	if err := session.Start(line); err != nil {
		return "", err
	}
	err = session.Wait()
	var exit *gossh.ExitError
	var missing *gossh.ExitMissingError
	switch {
	case errors.As(err, &exit):
		return out.String(), &ExitError{Code: exit.ExitStatus(), Signal: exit.Signal(), Output: out.String()}
	case errors.As(err, &missing):
		return out.String(), ErrNoStatus
	}
	return out.String(), err
}

// Converse runs argv in the guest while talk writes to its standard input and
// reads its standard output. A command that fails is an *ExitError, with what
// it wrote to standard error, whatever talk says.
func Converse(ctx context.Context, t Target, argv []string, talk func(in io.Writer, out io.Reader) error) error {
	c, err := dial(ctx, t)
	if err != nil {
		return err
	}
	defer c.close()
	err = c.converse(Quote(argv), talk)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return err
}

func (c *client) converse(line string, talk func(io.Writer, io.Reader) error) error {
	session, err := c.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	in, err := session.StdinPipe()
	if err != nil {
		return err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	said := &headWriter{max: 4 << 10}
	session.Stderr = said
	if err := session.Start(line); err != nil {
		return err
	}
	talked := talk(in, out)
	err = session.Wait()
	var exit *gossh.ExitError
	if errors.As(err, &exit) {
		err = &ExitError{Code: exit.ExitStatus(), Signal: exit.Signal(), Output: said.String()}
	}
	if talked != nil && err != nil {
		return fmt.Errorf("%w (%w)", talked, err)
	}
	return errors.Join(talked, err)
}

// client is a connection that ends with the context it was made under.
type client struct {
	*gossh.Client
	stop func() bool
}

func (c *client) close() {
	c.stop()
	// The peer may be gone already; nothing depends on a polite goodbye.
	_ = c.Close()
}

// handshakeTimeout bounds one attempt, whatever the context allows: a guest
// that is still booting may take the connection and never answer.
const handshakeTimeout = 10 * time.Second

func dial(ctx context.Context, t Target) (*client, error) {
	signer, err := readKey(filepath.Join(t.Dir, ClientKey))
	if err != nil {
		return nil, fmt.Errorf("cannot read the SSH key of %s: %w", t.ID, err)
	}
	pinned, err := pinnedKey(filepath.Join(t.Dir, KnownHosts), t.ID)
	if err != nil {
		return nil, fmt.Errorf("cannot read the SSH host key of %s: %w", t.ID, err)
	}
	c, err := connect(ctx, t, signer, pinned)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("cannot talk to %s over SSH: %w: %w", t.ID, ErrConnection, err)
	}
	return c, nil
}

func connect(ctx context.Context, t Target, signer gossh.Signer, pinned gossh.PublicKey) (*client, error) {
	dialer := net.Dialer{Timeout: handshakeTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(t.Addr, strconv.Itoa(t.port())))
	if err != nil {
		return nil, err
	}
	// Closing the connection is what ends every wait on it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	fail := func(err error) (*client, error) {
		stop()
		return nil, errors.Join(err, ignoreClosed(conn.Close()))
	}
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fail(err)
	}
	sc, channels, requests, err := gossh.NewClientConn(conn, t.Addr, &gossh.ClientConfig{
		User:              user,
		Auth:              []gossh.AuthMethod{gossh.PublicKeys(signer)},
		HostKeyCallback:   gossh.FixedHostKey(pinned),
		HostKeyAlgorithms: []string{gossh.KeyAlgoED25519},
	})
	if err != nil {
		return fail(err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return fail(err)
	}
	return &client{gossh.NewClient(sc, channels, requests), stop}, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// pinnedKey is the host key that known_hosts has for id.
func pinnedKey(path, id string) (gossh.PublicKey, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for len(rest) > 0 {
		var hosts []string
		var key gossh.PublicKey
		_, hosts, key, _, rest, err = gossh.ParseKnownHosts(rest)
		if err != nil {
			break
		}
		if slices.Contains(hosts, id) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s pins no host key for %s", path, id)
}

// headWriter keeps the first max bytes written to it. The client writes both
// of the command's streams from one goroutine each.
type headWriter struct {
	max int
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *headWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p[:min(len(p), w.max-w.buf.Len())])
	return len(p), nil
}

func (w *headWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(bytes.TrimSpace(w.buf.Bytes()))
}
