package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/proc"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

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

// ToStop lists the tenants that Stop has something to do for: those that run or
// are being started, and those that went down without being stopped, which
// reconcile may start.
func (h *Host) ToStop() ([]string, error) {
	ids, err := h.Store.IDs()
	if err != nil {
		return nil, err
	}
	errs, done := make([]error, len(ids)), make([]bool, len(ids))
	parallel(len(ids), func(i int) {
		var alive bool
		alive, errs[i] = h.Store.SupervisorAlive(ids[i])
		state, err := h.Store.LoadState(ids[i])
		// Of one whose state cannot be read, the supervisor alone tells.
		done[i] = !alive && (err != nil || !state.Wanted && !live(state.Phase))
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var left []string
	for i, id := range ids {
		if !done[i] {
			left = append(left, id)
		}
	}
	return left, nil
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
		{"sweep", func(ctx context.Context) error { return h.sweepLast(ctx, id) }},
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
		timeout = h.Config.StopTimeout()
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
