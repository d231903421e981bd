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

// Await returns when the guest answers on SSH: it shows the pinned host key and
// lets the tenant's key in. After an attempt that failed it calls failed, unless
// that is nil, and gives up if that returns an error. When ctx ends, the error
// also says how the last attempt failed.
func Await(ctx context.Context, t Target, failed func(error) error) error {
	began := time.Now()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		// A guest whose network is not up yet loses the first packet, and the
		// kernel repeats it only after 1, 3 and 7 seconds: a new attempt is
		// sooner. But a guest that is slow to boot is slow to answer, too, and
		// each attempt makes it slower.
		waited := time.Since(began)
		c, err := dial(ctx, t, patience{
			connect: max(100*time.Millisecond, waited/20),
			shake:   min(max(handshakeTimeout, waited), time.Minute),
		})
		if err == nil {
			c.close()
			return nil
		}
		if !errors.Is(err, ErrConnection) {
			return err
		}
		if failed != nil && ctx.Err() == nil {
			if err := failed(err); err != nil {
				return err
			}
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Exec runs argv in the guest without the system's ssh client and returns the
// first of what it wrote.
func Exec(ctx context.Context, t Target, argv ...string) (string, error) {
	c, err := dial(ctx, t, within(ctx))
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
	c, err := dial(ctx, t, within(ctx))
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

// patience is how long one attempt waits for the connection, and then for the
// guest to prove who it is and to let us in.
type patience struct{ connect, shake time.Duration }

// within is the patience of a single attempt. Many guests that are asked at once
// are slow to answer: who has the time waits for longer, but leaves some for
// another way.
func within(ctx context.Context) patience {
	p := patience{handshakeTimeout, handshakeTimeout}
	if end, ok := ctx.Deadline(); ok {
		p.shake = max(p.shake, time.Until(end)/2)
	}
	return p
}

func dial(ctx context.Context, t Target, p patience) (*client, error) {
	signer, err := readKey(filepath.Join(t.Dir, ClientKey))
	if err != nil {
		return nil, fmt.Errorf("cannot read the SSH key of %s: %w", t.ID, err)
	}
	pinned, err := pinnedKey(filepath.Join(t.Dir, KnownHosts), t.ID)
	if err != nil {
		return nil, fmt.Errorf("cannot read the SSH host key of %s: %w", t.ID, err)
	}
	c, err := connect(ctx, t, p, signer, pinned)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("cannot talk to %s over SSH: %w: %w", t.ID, ErrConnection, err)
	}
	return c, nil
}

func connect(ctx context.Context, t Target, p patience, signer gossh.Signer, pinned gossh.PublicKey) (*client, error) {
	dialer := net.Dialer{Timeout: p.connect}
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
	if err := conn.SetDeadline(time.Now().Add(p.shake)); err != nil {
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
