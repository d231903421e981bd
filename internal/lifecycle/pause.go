package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// Pause stops the guest's vCPUs. Memory, network and volumes stay as they are;
// already says that they stood still before.
func (h *Host) Pause(ctx context.Context, id string) (already bool, err error) {
	return h.setPaused(ctx, id, "pause", tenant.Paused, supervisor.Client.Pause)
}

// Resume lets a paused guest go on.
func (h *Host) Resume(ctx context.Context, id string) (already bool, err error) {
	return h.setPaused(ctx, id, "resume", tenant.Running, supervisor.Client.Resume)
}

func (h *Host) setPaused(ctx context.Context, id, act string, to tenant.Phase, ask func(supervisor.Client, context.Context) error) (already bool, err error) {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	status, err := h.Observe(id)
	if err != nil {
		return false, err
	}
	// It is asked also where the state says that it is so: the VMM knows.
	already = status.Phase == to
	err = h.askVM(ctx, status, ask)
	crash.Point(act + "/asked")
	return already, h.record(id, act, nil, err)
}

// askVM has a tenant's supervisor do something with its VM. Somebody who is at
// it already is waited for; where there is no VM, the error says at once why.
func (h *Host) askVM(ctx context.Context, s Status, ask func(supervisor.Client, context.Context) error) error {
	if !s.supervised {
		return &Error{Kind: ErrState, Msg: s.Words(), Hint: h.Command("run", s.ID)}
	}
	err := ask(supervisor.Client{Socket: h.Store.Tenant(s.ID).ControlSocket()}, ctx)
	var absent *supervisor.AbsentError
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.As(err, &absent):
		return &Error{Kind: ErrState, Msg: absent.Why, Hint: fmt.Sprintf("wait until it runs (%s), or stop it: %s", h.Command("show", s.ID), h.Command("stop", s.ID))}
	case errors.Is(err, supervisor.ErrNoSupervisor): // it does not listen yet, or not any more
		now, lookErr := h.Observe(s.ID)
		if lookErr != nil {
			return lookErr
		}
		return &Error{Kind: ErrState, Msg: now.Words(), Hint: h.Command("show", s.ID)}
	}
	return err
}

func pausedError(id string) error {
	return &Error{Kind: ErrState, Msg: "it is paused", Hint: "mvm tenant resume " + id}
}
