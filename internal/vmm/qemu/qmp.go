package qemu

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
)

// qmp speaks QEMU's machine protocol on one end of a socket pair. No other
// process can reach it, and it ends when QEMU does.
type qmp struct {
	conn   net.Conn
	events func(event)
	ended  chan struct{} // closed when QEMU has said all that it will

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan reply
	closed  error
}

// event is what QEMU says unasked.
type event struct {
	Name string `json:"event"`
	Data struct {
		Guest  bool   `json:"guest"`
		Reason string `json:"reason"`
	} `json:"data"`
}

type reply struct {
	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// maxMessage bounds a line of QEMU's, which a broken-out guest may write.
const maxMessage = 1 << 20

var errGone = errors.New("QEMU is gone")

// socketPair makes the two ends; theirs is for QEMU.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine := os.NewFile(uintptr(fds[0]), "qmp")
	theirs = os.NewFile(uintptr(fds[1]), "qmp")
	ours, err = net.FileConn(mine)
	mine.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// newQMP begins to read. events is called for each event, in order, and must
// not call back.
func newQMP(conn net.Conn, events func(event)) *qmp {
	q := &qmp{conn: conn, events: events, ended: make(chan struct{}), waiting: map[uint64]chan reply{}}
	go q.read()
	return q
}

func (q *qmp) read() {
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(make([]byte, 0, 4096), maxMessage)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Name != "" {
			q.events(e)
			continue
		}
		var r reply
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.ID == nil {
			continue // the greeting
		}
		q.mu.Lock()
		answer := q.waiting[*r.ID]
		delete(q.waiting, *r.ID)
		q.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = errGone
	for id, answer := range q.waiting {
		close(answer)
		delete(q.waiting, id)
	}
	q.conn.Close()
	close(q.ended)
}

// finish waits until everything that a dead QEMU has said was read.
func (q *qmp) finish() {
	q.conn.SetReadDeadline(time.Now().Add(time.Second)) // in case its end is held elsewhere
	<-q.ended
}

// do executes a command without arguments and decodes its result into out,
// unless that is nil.
func (q *qmp) do(ctx context.Context, command string, out any) error {
	return q.doWith(ctx, command, nil, out)
}

// doWith is do for a command with arguments.
func (q *qmp) doWith(ctx context.Context, command string, arguments map[string]any, out any) error {
	answer, err := q.send(ctx, command, arguments)
	if err != nil {
		return fmt.Errorf("cannot ask QEMU for %s: %w", command, err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("cannot ask QEMU for %s: no answer: %w", command, ctx.Err())
	case r, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("cannot ask QEMU for %s: %w", command, errGone)
		case r.Error != nil:
			return fmt.Errorf("QEMU refuses %s: %s", command, r.Error.Desc)
		case out != nil:
			return json.Unmarshal(r.Return, out)
		}
		return nil
	}
}

func (q *qmp) send(ctx context.Context, command string, arguments map[string]any) (chan reply, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return nil, q.closed
	}
	q.next++
	message := map[string]any{"execute": command, "id": q.next}
	if arguments != nil {
		message["arguments"] = arguments
	}
	line, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	if err := q.conn.SetWriteDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := q.conn.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	answer := make(chan reply, 1)
	q.waiting[q.next] = answer
	return answer, nil
}
