package lifecycle

import (
	"context"

	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/supervisor"
)

// Network observes the tenants' network.
func (h *Host) Network(ctx context.Context) (network.Status, error) {
	return network.Show(ctx, supervisor.NetworkConfig(h.Store, h.Config))
}

// VerifyNetwork proves by packets what the tenant can't do: probe ports with
// its policy join the network for a few seconds. The tenant need not run.
func (h *Host) VerifyNetwork(ctx context.Context, id string) ([]network.ProbeResult, error) {
	status, err := h.Observe(id)
	if err != nil {
		return nil, err
	}
	state := status.State
	state.Spec.Egress = status.Spec.Egress
	ep, err := supervisor.Endpoint(state)
	if err != nil {
		return nil, err
	}
	lock, err := h.Store.ShareNetwork(ctx) // reconciling would remove the probe ports
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	return network.Verify(ctx, supervisor.NetworkConfig(h.Store, h.Config), ep)
}

// CheckNetwork compares the links and rules that there are with those that
// the running tenants should have, and returns the differences.
func (h *Host) CheckNetwork(ctx context.Context) ([]Act, error) {
	r := &reconciler{Host: h, dryRun: true}
	err := r.network(ctx)
	return r.acts, err
}
