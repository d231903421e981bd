package supervisor

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/vmm"
)

type someVM struct{ vmm.VM }

func nothing(context.Context, vmm.VM) error { return nil }

// Where there is no VM, everybody hears at once why.
func TestAbsentVM(t *testing.T) {
	seat := newSeat()
	never := func(context.Context, vmm.VM) error {
		t.Error("something was done with a VM that is not there")
		return nil
	}
	wants := func(why string) {
		t.Helper()
		_, _, look := seat.look()
		for _, err := range []error{look, seat.change(t.Context(), time.Minute, never)} {
			if err == nil || err.Error() != why {
				t.Errorf("got %v, want %q", err, why)
			}
		}
	}
	wants("it is starting")
	seat.put(someVM{})
	if err := seat.change(t.Context(), time.Minute, nothing); err != nil {
		t.Error(err)
	}
	seat.take(absence{why: "its VMM has ended"})
	wants("its VMM has ended")
	seat.take(absence{"it waits to be started again", time.Now().Add(-time.Second)})
	wants("it waits to be started again, in 0s")
	seat.take(absence{"it waits to be started again", time.Now().Add(time.Hour - time.Millisecond)})
	wants("it waits to be started again, in 1h0m0s")
	seat.put(someVM{})
	if _, _, err := seat.look(); err != nil {
		t.Error(err)
	}
}

// Changes are made one after the other; who waits is served, and who does not
// want it any more is not.
func TestChangesTakeTurns(t *testing.T) {
	seat := newSeat()
	seat.put(someVM{})
	begun, end := make(chan struct{}), make(chan struct{})
	results := make(chan error, 2)
	go func() {
		results <- seat.change(t.Context(), time.Minute, func(context.Context, vmm.VM) error {
			close(begun)
			<-end
			return errors.New("first")
		})
	}()
	<-begun
	if _, _, err := seat.look(); err != nil {
		t.Errorf("nobody may look beside a change: %v", err)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if err := seat.change(left, time.Minute, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("what nobody wants any more: %v", err)
	}
	go func() {
		results <- seat.change(t.Context(), time.Minute, func(context.Context, vmm.VM) error { return errors.New("second") })
	}()
	close(end)
	got := []string{(<-results).Error(), (<-results).Error()}
	if strings.Join(got, " ") != "first second" && strings.Join(got, " ") != "second first" {
		t.Errorf("the changes said %q", got)
	}
	err := seat.change(t.Context(), time.Nanosecond, func(ctx context.Context, _ vmm.VM) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a change without time: %v", err)
	}
}

// Who acts on a VM that is taken away ends first, and who waits hears why.
func TestVMIsTakenAway(t *testing.T) {
	seat := newSeat()
	seat.put(someVM{})
	begun, results := make(chan struct{}), make(chan error, 2)
	acting := true
	go func() {
		results <- seat.change(t.Context(), time.Minute, func(ctx context.Context, _ vmm.VM) error {
			close(begun)
			<-ctx.Done()
			acting = false // the race detector sees where take does not wait
			return nil
		})
	}()
	<-begun
	go func() { results <- seat.change(t.Context(), time.Minute, nothing) }()
	seat.take(absence{why: "it is stopping"})
	if acting {
		t.Error("it was taken from somebody who acts on it")
	}
	for range 2 {
		if err := <-results; err != nil && err.Error() != "it is stopping" {
			t.Error(err)
		}
	}
}

// A client who hangs up while it waits for its turn wants nothing any more.
func TestClientLeavesTheQueue(t *testing.T) {
	s := &supervisor{seat: newSeat()}
	s.seat.put(someVM{})
	l, err := listen(filepath.Join(t.TempDir(), "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	asked, served := make(chan struct{}), make(chan struct{})
	done := false
	go func() {
		defer close(served)
		serve(l, func(_ request, conn *net.UnixConn) {
			asked <- struct{}{}
			s.handleChange(conn, time.Minute, func(context.Context, vmm.VM) error { done = true; return nil })
		})
	}()
	ask := func(ctx context.Context) chan error {
		result := make(chan error, 1)
		go func() { result <- Client{l.Addr().String()}.Pause(ctx) }()
		<-asked
		return result
	}
	err = s.seat.change(t.Context(), time.Minute, func(context.Context, vmm.VM) error {
		ctx, hangUp := context.WithCancel(t.Context())
		result := ask(ctx)
		hangUp()
		if err := l.Close(); err != nil { // serve ends when its last client is answered
			return err
		}
		<-served
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("the client says %v", err)
		}
		return nil
	})
	if err != nil || done {
		t.Errorf("done %v, %v", done, err)
	}
}

// What a client hears of a VM that is not there can be told from what failed.
func TestAbsenceCrossesTheSocket(t *testing.T) {
	s := &supervisor{seat: newSeat()}
	l, err := listen(filepath.Join(t.TempDir(), "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(l, s.handle)
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	c := Client{l.Addr().String()}
	for verb, ask := range map[string]func() error{
		"pause":   func() error { return c.Pause(t.Context()) },
		"resume":  func() error { return c.Resume(t.Context()) },
		"grow":    func() error { return c.Grow(t.Context(), "/data", 1<<20) },
		"beside":  func() error { return c.Grow(t.Context(), "/work", 1<<20) },
		"push":    func() error { return c.PushSecrets(t.Context()) },
		"counter": func() error { _, err := c.Counters(t.Context()); return err },
	} {
		var absent *AbsentError
		if err := ask(); !errors.As(err, &absent) || absent.Why != "it is starting" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	s.seat.put(someVM{})
	var absent *AbsentError
	if _, err := c.Counters(t.Context()); err == nil || errors.As(err, &absent) {
		t.Errorf("a VMM that counts nothing: %v", err)
	}
}
