package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/vmm"
)

// handle answers one client.
func (s *supervisor) handle(req request, conn *net.UnixConn) {
	switch req.Do {
	case "stop":
		s.handleStop(req, conn)
	case "pause", "resume":
		s.handlePause(req, conn)
	case "grow":
		s.handleGrow(req, conn)
	case "counters":
		s.handleCounters(conn)
	case "console":
		s.handleConsole(req, conn)
	case "push-secrets":
		s.handlePush(conn)
	default:
		reply(conn, Reply{Done: true, Error: fmt.Sprintf("cannot do %q", req.Do)})
	}
}

func (s *supervisor) handleStop(req request, conn net.Conn) {
	stop := stopRequest{grace: req.Timeout, say: func(text string) { reply(conn, Reply{Text: text}) }}
	select {
	case s.stops <- stop:
		<-s.done
	case <-s.done: // somebody else's request was first
	}
	reply(conn, Reply{Done: true})
}

func (s *supervisor) handlePause(req request, conn net.Conn) {
	r := Reply{Done: true}
	select {
	case vm := <-s.current:
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		act, ev := vm.Pause, evPause
		if req.Do == "resume" {
			act, ev = vm.Resume, evResume
		}
		err := act(ctx)
		if err == nil { // whoever asks again after a failed write finds it done and has it written
			crash.Point("supervisor/asked-" + req.Do)
			err = s.enter(ev, "", nil)
		}
		if err != nil {
			r.Error = err.Error()
		}
		s.current <- vm
	default:
		r.Error = "it does not run"
	}
	reply(conn, r)
}

// withVM does act with the VM, which is nobody else's meanwhile. Somebody else
// may have it: they are waited for, as long as ctx allows.
func (s *supervisor) withVM(ctx context.Context, act func(vmm.VM) error) error {
	select {
	case vm := <-s.current:
		defer func() { s.current <- vm }()
		return act(vm)
	case <-s.done:
	case <-ctx.Done():
	}
	return errors.New("it does not run")
}

// handleCounters asks the VMM.
func (s *supervisor) handleCounters(conn net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	r := Reply{Done: true}
	err := s.withVM(ctx, func(vm vmm.VM) error {
		counter, ok := vm.(vmm.Counter)
		if !ok {
			return vmm.ErrUnsupported
		}
		counted, err := counter.Counters(ctx)
		if err == nil {
			r.Counters = &counted
		}
		return err
	})
	if err != nil {
		r.Error = err.Error()
	}
	reply(conn, r)
}
