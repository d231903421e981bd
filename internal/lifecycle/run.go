package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/proc"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// RunOptions is what run needs to know.
type RunOptions struct {
	NoWait   bool          // return when the VMM runs
	Timeout  time.Duration // for the guest to answer on SSH; 0: limits.ssh_timeout_sec
	Progress func(supervisor.Progress)
}

// Ran is what run did.
type Ran struct {
	State   tenant.State
	Already bool
	Ready   time.Duration // from the call to the guest's answer
}

// Run starts the tenant's supervisor and waits until the guest answers.
func (h *Host) Run(ctx context.Context, id string, o RunOptions) (Ran, error) {
	began := time.Now()
	if o.Progress == nil {
		o.Progress = func(supervisor.Progress) {}
	}
	already, err := h.start(ctx, id, traced(ctx, o.Progress))
	if err != nil {
		return Ran{}, err
	}
	return h.answered(ctx, id, o, began, already)
}

// answered waits for the guest's answer to a start that began then, unless
// nobody wants to.
func (h *Host) answered(ctx context.Context, id string, o RunOptions, began time.Time, already bool) (Ran, error) {
	if already {
		if err := h.waitForTurn(ctx, id); err != nil {
			return Ran{}, err
		}
	}
	if !o.NoWait {
		began := time.Now()
		err := h.waitForSSH(ctx, id, o.Timeout)
		trace(ctx, "ssh answers", began)
		if err != nil {
			return Ran{}, err
		}
	}
	state, err := h.Store.LoadState(id)
	return Ran{State: state, Already: already, Ready: time.Since(began)}, err
}

// start brings the VMM up under the tenant's lock.
func (h *Host) start(ctx context.Context, id string, progress func(supervisor.Progress)) (already bool, err error) {
	began := time.Now()
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	trace(ctx, "lock", began)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	return h.startLocked(ctx, id, lock, progress)
}

// startLocked is start under the caller's lock. While the tenant waits for its
// turn to boot, and from then on, the lock is free for those who stop it.
func (h *Host) startLocked(ctx context.Context, id string, lock *store.Lock, progress func(supervisor.Progress)) (already bool, err error) {
	status, already, err := h.settled(ctx, id)
	if err != nil || already {
		return already, err
	}
	if err := h.checkBootable(status); err != nil {
		return false, err
	}
	return false, sequence(ctx, "run", []step{
		{"sweep", func(ctx context.Context) error { return h.sweepLast(ctx, id) }},
		{"want", func(ctx context.Context) error { return h.wantRunning(ctx, id, status.Spec) }},
		{"spawn", func(ctx context.Context) error { return h.spawn(ctx, id, lock, progress) }},
	})
}

// spawn starts the supervisor and hands it its lock; held is the tenant's.
func (h *Host) spawn(ctx context.Context, id string, held *store.Lock, progress func(supervisor.Progress)) error {
	lock, err := h.Store.LockSupervisor(ctx, id, h.Wait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	queued := false
	err = supervisor.Spawn(ctx, h.Store, id, lock, func(p supervisor.Progress) {
		if p.Queued {
			queued = true
			held.Unlock()
			p.Note = h.turnNote(id)
		}
		progress(p)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && queued:
		return stoppedWaiting(ctx)
	case ctx.Err() != nil:
		return err
	case errors.Is(err, supervisor.ErrStopped):
		return &Error{Kind: ErrState, Msg: err.Error(), Hint: "mvm tenant run " + id}
	case queued: // its state is no longer this command's
		return err
	}
	// A supervisor that got that far has said so itself.
	return errors.Join(err, h.Store.UpdateState(id, func(s *tenant.State) error {
		if s.Phase == tenant.Created || s.Phase == tenant.Stopped {
			s.Phase, s.Reason, s.Since = tenant.Failed, err.Error(), time.Now().UTC()
		}
		return nil
	}))
}

// checkBootable says why the tenant cannot be started, whatever else runs.
func (h *Host) checkBootable(s Status) error {
	if !s.Built {
		return &Error{Kind: ErrState, Msg: "it is not built", Hint: "mvm tenant build " + s.ID}
	}
	return h.checkTier(s.Spec)
}

// settled observes a tenant. One whose supervisor is at it already needs no
// start; one whose supervisor is on its way out is waited for.
func (h *Host) settled(ctx context.Context, id string) (s Status, already bool, err error) {
	deadline := time.NewTimer(h.Wait)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if s, err = h.Observe(id); err != nil {
			return s, false, err
		}
		if !s.supervised {
			// Between its last word and its end it still has the lock.
			if alive, err := h.Store.SupervisorAlive(id); err != nil || !alive {
				return s, false, err
			}
		}
		if s.Running && s.Phase == tenant.Paused {
			return s, false, pausedError(id)
		}
		if s.Running && s.Phase == tenant.Running || s.Phase == tenant.Starting || s.Phase == tenant.Restarting {
			return s, true, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return s, false, ctx.Err()
		case <-deadline.C:
			return s, false, &Error{
				Kind: ErrState,
				Msg:  s.Words(),
				Hint: "wait for it, or stop it: " + h.Command("stop", id),
			}
		}
	}
}

// wantRunning writes down that the tenant should run before anything runs:
// whoever finds it half started knows what was meant, and what it takes of the
// host is taken.
func (h *Host) wantRunning(ctx context.Context, id string, spec tenant.Spec) error {
	// Always the tenants' before the dev microVM's: whoever counts holds the
	// first, so that two starts do not both find the last free place.
	if h.Parent != nil {
		lock, err := h.Parent.Store.LockHost(ctx)
		if err != nil {
			return err
		}
		defer lock.Unlock()
	}
	lock, err := h.Store.LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := h.checkCapacity(spec); err != nil {
		return err
	}
	boot, err := proc.BootID()
	if err != nil {
		return err
	}
	if err := h.Store.Activate(id); err != nil {
		return err
	}
	return h.Store.UpdateState(id, func(s *tenant.State) error {
		if s.Phase != tenant.Created {
			s.Phase, s.Reason = tenant.Stopped, ""
		}
		s.ForgetProcesses()
		s.Wanted, s.Spec, s.Tier, s.BootID = true, spec, h.Config.Tier, boot
		s.Restarts = 0
		return nil
	})
}

func (h *Host) waitForSSH(ctx context.Context, id string, timeout time.Duration) error {
	if timeout == 0 {
		timeout = time.Duration(h.Config.Limits.SSHTimeoutSec) * time.Second
	}
	waitCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	state, err := h.Store.LoadState(id)
	if err != nil {
		return err
	}
	err = ssh.Await(waitCtx, h.target(state), func(error) error {
		status, err := h.Observe(id)
		if err == nil && !status.supervised {
			return &Error{Kind: ErrState, Msg: fmt.Sprintf("it ended before it answered on SSH: %s: %s", status.Phase, status.Reason), Hint: "look at its console: " + h.Command("logs", id)}
		}
		return err
	})
	switch {
	case ctx.Err() != nil && err != nil:
		return fmt.Errorf("stopped waiting for the guest, which goes on starting: %w", ctx.Err())
	case waitCtx.Err() != nil && err != nil:
		return &Error{Kind: ErrState, Msg: fmt.Sprintf("its VMM runs, but the guest did not answer on SSH within %s: %v", timeout, err), Hint: fmt.Sprintf("look at its console: %s; or stop it: %s", h.Command("logs", id), h.Command("stop", id))}
	}
	return err
}

// Target is how to reach a tenant that runs.
func (h *Host) Target(id string) (ssh.Target, error) {
	status, err := h.Observe(id)
	if err != nil {
		return ssh.Target{}, err
	}
	if status.Running && status.Phase == tenant.Paused {
		return ssh.Target{}, pausedError(id)
	}
	if !status.Running {
		return ssh.Target{}, &Error{Kind: ErrState, Msg: status.Words(), Hint: "mvm tenant run " + id}
	}
	return h.target(status.State), nil
}

func (h *Host) target(state tenant.State) ssh.Target {
	t := h.Store.Tenant(state.Spec.TenantID)
	return ssh.Target{ID: t.ID, Addr: state.Net.IP, Dir: t.SSHDir()}
}

// StopOptions is what stop needs to know.
type StopOptions struct {
	Timeout time.Duration // for the guest; 0: limits.stop_timeout_sec
	Force   bool          // do not ask the guest
}

// Stop stops the tenant and returns when nothing of its run is left.
func (h *Host) Stop(ctx context.Context, id string, o StopOptions) (already bool, err error) {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	if err := h.MustExist(id); err != nil {
		return false, err
	}
	return h.stopRecorded(ctx, id, o)
}

// stopRecorded is Stop under the caller's lock.
func (h *Host) stopRecorded(ctx context.Context, id string, o StopOptions) (already bool, err error) {
	alive, err := h.Store.SupervisorAlive(id)
	if err == nil && alive {
		err = h.record(id, "stop", nil, nil)
	}
	if err != nil {
		return false, err
	}
	already, err = h.stop(ctx, id, o)
	return already, h.recordFailure(id, "stop", nil, err)
}

// stop is stopRecorded for what has a record of its own.
func (h *Host) stop(ctx context.Context, id string, o StopOptions) (already bool, err error) {
	alive, err := h.Store.SupervisorAlive(id)
	if err != nil {
		return false, err
	}
	return !alive, sequence(ctx, "stop", []step{
		{"unwant", func(context.Context) error {
			return h.Store.UpdateState(id, func(s *tenant.State) error { s.Wanted = false; return nil })
		}},
		{"supervisor", func(ctx context.Context) error {
			if !alive {
				return nil
			}
			return h.askSupervisor(ctx, id, o)
		}},
		{"sweep", func(ctx context.Context) error { return h.sweep(ctx, id) }},
		{"state", func(context.Context) error { return h.Store.UpdateState(id, markStopped) }},
	})
}

// markStopped makes a state say what holds after a sweep.
func markStopped(s *tenant.State) error {
	if live(s.Phase) { // its supervisor died and could not say so
		s.Phase, s.Reason, s.Since = tenant.Stopped, "swept after its supervisor had ended unexpectedly", time.Now().UTC()
	}
	s.ForgetProcesses()
	return nil
}

// askSupervisor has the supervisor stop the guest. One that does not answer is
// killed; the kernel takes the VMM with it.
func (h *Host) askSupervisor(ctx context.Context, id string, o StopOptions) error {
	timeout := o.Timeout
	if timeout == 0 {
		timeout = time.Duration(h.Config.Limits.StopTimeoutSec) * time.Second
	}
	if o.Force {
		timeout = 0
	}
	stopCtx, cancel := context.WithTimeout(ctx, timeout+supervisorGrace)
	defer cancel()
	client := supervisor.Client{Socket: h.Store.Tenant(id).ControlSocket()}
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		err := client.Stop(stopCtx, timeout, func(text string) { h.Say("  %s", text) })
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		killed, killErr := h.killSupervisor(id, err)
		if killErr != nil {
			return killErr
		}
		if killed {
			break
		}
		// It is so young that it does not listen yet, or so dead that only
		// the kernel is still at it.
		select {
		case <-retry.C:
		case <-stopCtx.Done():
			return &Error{Kind: ErrState, Msg: "its supervisor neither answers nor is named by its state", Hint: "end the process that holds " + h.Store.SupervisorLockFile(id)}
		}
	}
	// Its lock is free when the last process of its namespace is gone.
	gone, err := h.Store.LockSupervisor(ctx, id, supervisorGrace)
	if err != nil {
		return fmt.Errorf("cannot end the supervisor: %w", err)
	}
	gone.Unlock()
	return nil
}

// supervisorGrace is how long a supervisor may take to tear down after its
// guest has ended.
const supervisorGrace = 20 * time.Second

// killSupervisor ends a supervisor that does not do what it is asked, and
// reports that there is none any more. It is false where the lock is held, but
// not by a living process that the state names.
func (h *Host) killSupervisor(id string, why error) (gone bool, err error) {
	alive, err := h.Store.SupervisorAlive(id)
	if err != nil || !alive {
		return true, err
	}
	state, err := h.Store.LoadState(id)
	if err != nil {
		return false, err
	}
	p := proc.ID{PID: state.SupervisorPID, Start: state.SupervisorStart}
	if !p.Alive() {
		return false, nil
	}
	h.Say("  the supervisor does not stop it (%v): killing the supervisor", why)
	return true, p.Kill()
}
