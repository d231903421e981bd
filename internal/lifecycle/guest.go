package lifecycle

import (
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/tenant"
)

// Place is where a tenant's guest answers while it runs. Unlike Target it does
// not ask whether it does: address and keys are the tenant's for its life.
func (h *Host) Place(id string) (ssh.Target, error) {
	if err := h.MustExist(id); err != nil {
		return ssh.Target{}, err
	}
	state, err := h.Store.LoadState(id)
	if err != nil {
		return ssh.Target{}, err
	}
	return h.target(state), nil
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
		return ssh.Target{}, &Error{Kind: ErrState, Msg: status.Words(), Hint: h.Command("run", id)}
	}
	return h.target(status.State), nil
}

func (h *Host) target(state tenant.State) ssh.Target {
	t := h.Store.Tenant(state.Spec.TenantID)
	return ssh.Target{ID: t.ID, Addr: state.Net.IP, Dir: t.SSHDir()}
}
