package lifecycle

import (
	"context"

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
	if !status.Running || status.Phase != tenant.Running && status.Phase != tenant.Paused {
		return false, &Error{Kind: ErrState, Msg: status.Words(), Hint: "mvm tenant run " + id}
	}
	// It is asked also where the state says that it is so: the VMM knows.
	already = status.Phase == to
	err = ask(supervisor.Client{Socket: h.Store.Tenant(id).ControlSocket()}, ctx)
	crash.Point(act + "/asked")
	return already, h.record(id, act, nil, err)
}

func pausedError(id string) error {
	return &Error{Kind: ErrState, Msg: "it is paused", Hint: "mvm tenant resume " + id}
}
