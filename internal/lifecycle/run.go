package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/build"
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
		h.tellAnswers(ctx, id)
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
	return h.startLocked(ctx, id, lock, supervisor.Once, progress)
}

// startLocked is start under the caller's lock. While the tenant waits for its
// turn to boot, and from then on, the lock is free for those who stop it.
func (h *Host) startLocked(ctx context.Context, id string, lock *store.Lock, first supervisor.First, progress func(supervisor.Progress)) (already bool, err error) {
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
		{"spawn", func(ctx context.Context) error { return h.spawn(ctx, id, lock, first, progress) }},
	})
}

// spawn starts the supervisor and hands it its lock; held is the tenant's.
func (h *Host) spawn(ctx context.Context, id string, held *store.Lock, first supervisor.First, progress func(supervisor.Progress)) error {
	lock, err := h.Store.LockSupervisor(ctx, id, h.Wait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	queued := false
	err = supervisor.Spawn(ctx, h.Store, id, first, lock, func(p supervisor.Progress) {
		if p.Queued {
			queued = true
			held.Unlock()
			p.Note = h.turnNote(id)
		}
		progress(p)
	})
	if errors.Is(err, build.ErrChanged) {
		err = &Error{Err: err, Hint: fmt.Sprintf("find out who changed it; %s builds it anew", h.Command("build", id))}
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && queued:
		return stoppedWaiting(ctx)
	case ctx.Err() != nil:
		return err
	case errors.Is(err, supervisor.ErrStopped):
		return &Error{Kind: ErrState, Msg: err.Error(), Hint: h.Command("run", id)}
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
		return &Error{Kind: ErrState, Msg: "it is not built", Hint: h.Command("build", s.ID)}
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
		s.Restarts, s.GaveUp = 0, false
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
