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

// CheckNetwork compares the links and rules that there are with those that
// the running tenants should have, and returns the differences.
func (h *Host) CheckNetwork(ctx context.Context) ([]Act, error) {
	r := &reconciler{Host: h, dryRun: true}
	err := r.network(ctx)
	return r.acts, err
}
