package lifecycle

import "github.com/auser/mvm/internal/ssh"

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
	t := h.Store.Tenant(id)
	return ssh.Target{ID: id, Addr: state.Net.IP, Dir: t.SSHDir()}, nil
}
