package supervisor

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
)

// handle answers one client.
func (s *supervisor) handle(req request, conn *net.UnixConn) {
	switch req.Do {
	case "stop":
		s.handleStop(req, conn)
	case "pause", "resume":
		s.handleChange(conn, requestTimeout, func(ctx context.Context, vm vmm.VM) error {
			return s.pauseOrResume(ctx, vm, req.Do)
		})
	case "grow":
		req.Mount = tenant.DataMount
		fallthrough
	case "grow-volume":
		s.handleChange(conn, growDeadline, func(ctx context.Context, vm vmm.VM) error {
			return s.grow(ctx, vm, req.Mount, req.Size)
		})
	case "counters":
		s.handleCounters(conn)
	case "answers":
		s.handleAnswers(conn)
	case "console":
		s.handleConsole(req, conn)
	case "push-secrets":
		s.handleChange(conn, pushDeadline, s.push)
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

// handleChange answers a client who wants act done with the VM. Once begun it
// goes on when the client leaves; who asks again finds done what was done.
func (s *supervisor) handleChange(conn net.Conn, limit time.Duration, act func(context.Context, vmm.VM) error) {
	wanted, cancel := whileThere(conn)
	defer cancel()
	reply(conn, done(s.seat.change(wanted, limit, act)))
}

// pauseOrResume has the VMM do either and writes it down. Who asks again after
// a failed write finds it done and has it written.
func (s *supervisor) pauseOrResume(ctx context.Context, vm vmm.VM, verb string) error {
	act, ev := vm.Pause, evPause
	if verb == "resume" {
		act, ev = vm.Resume, evResume
	}
	if err := act(ctx); err != nil {
		return err
	}
	crash.Point("supervisor/asked-" + verb)
	return s.enter(ev, "", nil)
}

// handleCounters asks the VMM, also while somebody changes the VM.
func (s *supervisor) handleCounters(conn net.Conn) {
	counted, err := s.counters()
	r := done(err)
	if err == nil {
		r.Counters = &counted
	}
	reply(conn, r)
}

func (s *supervisor) counters() (vmm.Counters, error) {
	vm, _, err := s.seat.look()
	if err != nil {
		return vmm.Counters{}, err
	}
	counter, ok := vm.(vmm.Counter)
	if !ok {
		return vmm.Counters{}, vmm.ErrUnsupported
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	return counter.Counters(ctx)
}
