// Package supervisor is the per-tenant process that owns everything with the
// VM's lifetime: network, disks, jail, cgroup, VMM, console and the policy
// that decides what follows when the VMM ends.
//
// It is the mvm program re-executed, the first process of a PID namespace of
// its own and alone in its mount namespace. It must not know of commands,
// flags or people; lifecycle starts it and talks to it through Client.
package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/logfile"
	"github.com/auser/mvm/internal/proc"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/undo"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/volume"
)

// supervisor is one tenant's.
type supervisor struct {
	store  *store.Store
	config config.Config
	t      store.Tenant
	log    *slog.Logger
	first  First

	progress *os.File // to whoever started this; nil when they have been told all
	console  *console
	stops    chan stopRequest
	done     chan struct{} // closed when everything is gone
	seat     *seat         // holds the VM while there is one
	answered chan struct{} // holds the word that the guest answers, which ends its turn to boot

	down undo.Stack // takes the current run away
	left bool       // something of a run may be left, since that failed
	over bool       // it was stopped
}

// stopRequest is a client that wants the guest stopped.
type stopRequest struct {
	grace time.Duration
	say   func(string)
}

// Main is the supervisor's whole life: it returns when the tenant is stopped,
// or failed for good, and nothing of its run is left.
func Main(ctx context.Context, st *store.Store, cfg config.Config, id string, first First) error {
	progress, err := inherit()
	if err != nil {
		return err
	}
	// SIGTERM asks for a stop like any other; it cuts nothing short.
	ctx = context.WithoutCancel(ctx)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, unix.SIGTERM)
	// A login session that ends may send this to all that was started in it.
	signal.Ignore(unix.SIGHUP)
	began := time.Now()
	s := &supervisor{
		store: st, config: cfg, t: st.Tenant(id), first: first, progress: progress,
		log:   slog.New(slog.NewTextHandler(&ownLog{os.Stderr, st.Tenant(id).SupervisorLog(), ownLogMax}, nil)),
		stops: make(chan stopRequest), done: make(chan struct{}), seat: newSeat(),
		answered: make(chan struct{}, 1),
	}
	if err := s.prepare(); err != nil {
		s.failStart(err)
		return err
	}
	defer s.console.Close()
	s.did("prepare", began)
	listener, err := listen(s.t.ControlSocket())
	if err != nil {
		s.failStart(err)
		return err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(listener, s.handle)
	}()
	err = s.live(ctx, terminate)
	close(s.done)
	err = errors.Join(err, listener.Close())
	<-served // whoever asked for this has their answer
	if err == nil && s.over && !s.left {
		crash.Point("supervisor/swept")
		// Without it nobody looks for more, see lifecycle's sweepLast.
		err = os.RemoveAll(s.t.RunDir())
	}
	return err
}

// prepare makes this process what a supervisor is.
func (s *supervisor) prepare() error {
	// Without this, mounts made here would appear on the host; what the host
	// unmounts still goes here, too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("cannot leave the host's mounts: %w", err)
	}
	if err := s.limitSelf(); err != nil {
		return err
	}
	// When memory runs out, the kernel should end the guest, not the process
	// that knows what to do about it.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0); err != nil {
		s.log.Warn("cannot lower the out-of-memory score", "error", err)
	}
	log, err := s.openLog(s.t.ConsoleLog())
	if err != nil {
		return fmt.Errorf("cannot open the console log: %w", err)
	}
	s.console = newConsole(log)
	self, err := proc.Self()
	if err != nil {
		return err
	}
	return s.store.UpdateState(s.t.ID, func(st *tenant.State) error {
		st.SupervisorPID, st.SupervisorStart = self.PID, self.Start
		return nil
	})
}

// openLog opens a log that a guest can fill: bounded, as the settings say.
func (s *supervisor) openLog(path string) (*logfile.Writer, error) {
	return logfile.Open(path, int64(s.config.Logs.ConsoleMaxMiB)<<20, s.config.Logs.ConsoleFiles)
}

// LogTime reads the time of a line of a supervisor's own log.
func LogTime(line []byte) (time.Time, bool) {
	stamp, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("time=")), []byte(" "))
	t, err := time.Parse(time.RFC3339, string(stamp))
	return t, err == nil
}

// limitSelf limits this process and what is started here: the VMM first of all.
func (s *supervisor) limitSelf() error {
	spec, err := s.store.LoadSpec(s.t.ID)
	if err != nil {
		return err
	}
	now, most, err := volume.Sizes(s.t.DataVolume())
	if err != nil {
		return err
	}
	largest := max(uint64(now), smallestFileLimit, uint64(s.config.Logs.ConsoleMaxMiB)<<20)
	for _, v := range spec.Volumes {
		if v.Folder != "" {
			largest = max(largest, tenant.MaxFolderMiB<<20)
			continue
		}
		largest = max(largest, uint64(v.SizeMiB)<<20)
		has, may, err := volume.Sizes(s.t.Volume(v))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is made at this start
		}
		if err != nil {
			return err
		}
		largest, most = max(largest, uint64(has)), max(most, may) // it may have more than it is to have
	}
	if spec.HugePages { // QEMU's are a file in memory
		largest = max(largest, uint64(spec.MemMiB)<<20)
	}
	return vmm.LimitSelf(largest, uint64(most))
}

// smallestFileLimit leaves room for what else this process itself writes.
const smallestFileLimit = 64 << 20

// live runs the VM, again and again as the policy says.
func (s *supervisor) live(ctx context.Context, terminate <-chan os.Signal) error {
	window := time.Duration(s.config.Limits.RestartWindowSec) * time.Second
	restarts := series{}
	for first := true; ; first = false {
		up, req, err := s.start(ctx, restarts.inARow, terminate)
		if req != nil {
			s.tell(Progress{Error: ErrStopped.Error(), Stopped: true})
			return s.stop(ctx, nil, *req)
		}
		if err != nil && first && s.first == Once {
			s.failStart(err)
			return s.enter(evFailed, err.Error(), nil)
		}
		e := ending{reason: fmt.Sprintf("it could not be started: %v", err)}
		if err == nil {
			s.tell(Progress{Up: true})
			debug.FreeOSMemory() // from here on there is next to nothing to do
			req, stopping := s.attend(up.vm, terminate)
			if stopping {
				return s.stop(ctx, up.vm, req)
			}
			e = s.ended(ctx, up)
		}
		restarts = restarts.after(e.ran, window)
		policy, failed := s.policy()
		if failed != nil {
			return errors.Join(failed, s.enter(evFailed, failed.Error(), nil))
		}
		v := decide(policy, e, restarts)
		if !v.again {
			failed := s.enter(evFailed, v.why, func(st *tenant.State) { st.GaveUp = err == nil })
			s.startFailed(err, v)
			return failed
		}
		if err := s.enter(evEnded, fmt.Sprintf("%s; starts again in %s", v.why, v.after), func(st *tenant.State) { st.Restarts++ }); err != nil {
			s.log.Error("cannot write the state", "error", err)
		}
		s.startFailed(err, v)
		s.seat.take(absence{"it waits to be started again", time.Now().Add(v.after)})
		if req, stopping := s.pause(v.after, terminate); stopping {
			return s.stop(ctx, nil, req)
		}
		s.seat.take(absence{why: "it is starting"})
		restarts = restarts.next()
	}
}

// startFailed tells whoever started this why it does not run, and what follows.
func (s *supervisor) startFailed(err error, v verdict) {
	switch {
	case err != nil && v.again:
		s.failStart(fmt.Errorf("%w; it is tried again in %s", err, v.after))
	case err != nil:
		s.failStart(err)
	}
}

// running is a VM that was brought up.
type running struct {
	vm    vmm.VM
	since time.Time
}

// start moves the tenant to running, unless somebody wants it stopped before it
// is its turn.
func (s *supervisor) start(ctx context.Context, inARow int, terminate <-chan os.Signal) (running, *stopRequest, error) {
	began := time.Now()
	if err := s.enter(evStart, "", nil); err != nil {
		return running{}, nil, err
	}
	s.did("starting", began)
	turn, stop, err := s.awaitTurn(ctx, terminate)
	if stop != nil || err != nil {
		return running{}, stop, err
	}
	crash.Point("supervisor/turn")
	select { // the word is of an earlier run
	case <-s.answered:
	default:
	}
	up, err := s.bringUp(ctx)
	if err != nil {
		err = s.record("start", up.detail, err)
	} else {
		began := time.Now()
		err = s.enter(evUp, "", func(st *tenant.State) {
			p := up.vm.Process().ID()
			st.FirecrackerPID, st.FirecrackerStart = p.PID, p.Start
			st.VMM, st.LastStartedAt = up.version, time.Now().UTC()
		})
		s.did("running", began)
	}
	if err != nil {
		turn.Unlock()
		return running{}, nil, s.takeDown(ctx, err)
	}
	if turn != nil {
		go s.endTurn(ctx, up, turn)
	}
	s.log.Info("started", "pid", up.vm.Process().ID().PID, "in_a_row", inARow)
	s.seat.put(up.vm)
	s.console.plug(up.vm.Process())
	return running{up.vm, time.Now()}, nil, nil
}

// takeDown takes the current run away, and joins what fails to err.
func (s *supervisor) takeDown(ctx context.Context, err error) error {
	var failed error
	s.down.Run(ctx, &failed)
	s.left = s.left || failed != nil
	return errors.Join(err, failed)
}

// attend waits until somebody wants the guest stopped or the VMM ends.
func (s *supervisor) attend(vm vmm.VM, terminate <-chan os.Signal) (stopRequest, bool) {
	select {
	case req := <-s.stops:
		return req, true
	case <-terminate:
		return s.hostStops(), true
	case <-vm.Done():
		return stopRequest{}, false
	}
}

// pause waits before a restart.
func (s *supervisor) pause(d time.Duration, terminate <-chan os.Signal) (stopRequest, bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case req := <-s.stops:
		return req, true
	case <-terminate:
		return s.hostStops(), true
	case <-timer.C:
		return stopRequest{}, false
	}
}

// hostStops is what SIGTERM asks for: the host shuts down.
func (s *supervisor) hostStops() stopRequest {
	return stopRequest{
		grace: s.config.StopTimeout(),
		say:   func(text string) { s.log.Info(text) },
	}
}

// ended takes down a run whose VMM ended by itself and says how it was.
func (s *supervisor) ended(ctx context.Context, up running) ending {
	s.seat.take(absence{why: "its VMM has ended"})
	s.console.plug(nil)
	exit := up.vm.Exit()
	e := ending{rebooted: exit.Cause == vmm.GuestEnded, ran: exit.Time.Sub(up.since), reason: exit.Reason}
	s.log.Info("the VMM ended", "cause", exit.Cause, "reason", exit.Reason)
	err := s.takeDown(ctx, nil)
	if err := s.record("end", map[string]any{"cause": exit.Cause, "reason": exit.Reason, "ran_seconds": e.ran.Seconds()}, err); err != nil {
		s.log.Error("cannot tidy up", "error", err)
	}
	return e
}

// stop ends the guest, or a wait for its restart, because somebody asked.
func (s *supervisor) stop(ctx context.Context, vm vmm.VM, req stopRequest) error {
	s.seat.take(absence{why: "it is stopping"}) // nobody pauses it from here on
	if err := s.enter(evStop, "", nil); err != nil {
		s.log.Error("cannot write the state", "error", err)
	}
	reason := "stopped while it waited to be started"
	var err error
	if vm != nil {
		s.wake(ctx, vm)
		req.say(fmt.Sprintf("asking the guest to stop, for %s at most", req.grace))
		var forced bool
		began := time.Now()
		asking, giveUp := context.WithCancel(ctx)
		go s.hurry(asking, giveUp)
		forced, err = vmm.Stop(asking, vm, req.grace, s.askGuest)
		giveUp()
		reason = "stopped on request"
		if forced {
			reason = fmt.Sprintf("killed: it did not stop within %s", time.Since(began).Round(time.Second))
			req.say("the guest did not stop in time, it was killed")
		}
	}
	err = s.takeDown(ctx, err)
	err = s.record("end", map[string]any{"reason": reason}, err)
	if err != nil {
		return errors.Join(err, s.enter(evFailed, err.Error(), nil))
	}
	s.over = true
	return s.enter(evDown, reason, nil)
}

// hurry hears who else wants a guest stopped that is being asked to: who has
// less patience than the first, and perhaps the first again, need not wait.
func (s *supervisor) hurry(asking context.Context, giveUp func()) {
	for {
		select {
		case req := <-s.stops:
			defer time.AfterFunc(req.grace, giveUp).Stop()
		case <-asking.Done():
			return
		}
	}
}

// wake lets a paused guest hear that it shall stop. One that cannot be woken is
// killed at the deadline, as one that does not listen.
func (s *supervisor) wake(ctx context.Context, vm vmm.VM) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	status, err := vm.Status(ctx)
	if err == nil && status == vmm.Paused {
		err = vm.Resume(ctx)
	}
	if err != nil {
		s.log.Warn("cannot tell whether the guest hears", "error", err)
	}
}

// policy is the restart policy as it stands now.
func (s *supervisor) policy() (tenant.Restart, error) {
	spec, err := s.store.LoadSpec(s.t.ID)
	if err != nil {
		return tenant.Restart{}, err
	}
	return tenant.ParseRestart(spec.Restart)
}

// enter makes one transition and writes it down.
func (s *supervisor) enter(ev event, reason string, change func(*tenant.State)) error {
	defer crash.Point("supervisor/" + string(ev))
	return s.store.UpdateState(s.t.ID, func(st *tenant.State) error {
		to, err := next(st.Phase, ev)
		if err != nil {
			return err
		}
		if st.Phase != to { // paused again, it is so since the first time
			st.Since = time.Now().UTC()
		}
		st.Phase, st.Reason = to, reason
		st.Running = to == tenant.Running || to == tenant.Paused || to == tenant.Stopping
		if !st.Running {
			st.FirecrackerPID, st.FirecrackerStart = 0, 0
		}
		if change != nil {
			change(st)
		}
		return nil
	})
}

func (s *supervisor) record(act string, detail map[string]any, err error) error {
	return audit.Record(s.store.AuditFile(s.t.ID), s.t.ID, act, detail, err)
}

// did tells of a step that ends now.
func (s *supervisor) did(step string, began time.Time) {
	s.tell(Progress{Step: step, Start: began, Took: time.Since(began)})
}

// tell reports to whoever started this process. They may have gone: then
// nobody needs to know.
func (s *supervisor) tell(p Progress) {
	if s.progress == nil {
		return
	}
	line, err := json.Marshal(p)
	if err == nil {
		_, err = s.progress.Write(append(line, '\n'))
	}
	if err != nil || p.last() {
		s.progress.Close()
		s.progress = nil
	}
}

func (s *supervisor) failStart(err error) {
	s.log.Error("cannot start", "error", err)
	s.tell(Progress{Error: err.Error(), Hint: fault.Hint(err), Changed: errors.Is(err, build.ErrChanged)})
}
