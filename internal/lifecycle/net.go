package lifecycle

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// Network is the tenants' network at this moment, and whose places it has.
type Network struct {
	network.Status
	Leases []Lease `json:"leases"` // by address, also of tenants that do not run
}

// Lease is a tenant's place in the network, for its life.
type Lease struct {
	Tenant string     `json:"tenant_id"`
	IP     netip.Addr `json:"ip"`
	TAP    string     `json:"tap"` // there while it runs
}

// Network observes the tenants' network.
func (h *Host) Network(ctx context.Context) (Network, error) {
	status, err := network.Show(ctx, supervisor.NetworkConfig(h.Store, h.Config))
	if err != nil {
		return Network{}, err
	}
	leases, _, err := h.readLeases() // damaged, they are what rebuilding them will make of them
	if err != nil {
		return Network{}, err
	}
	n := Network{Status: status, Leases: []Lease{}}
	for id, ip := range leases.Leases() {
		n.Leases = append(n.Leases, Lease{id, ip, tenant.TapName(h.Store.Scope, id)})
	}
	slices.SortFunc(n.Leases, func(a, b Lease) int { return a.IP.Compare(b.IP) })
	return n, nil
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

// RemoveNetwork takes the tenants' network off this host: bridges, rules, and
// what was changed in the host's other firewalls. The next tenant that runs
// makes it anew. It is refused while one does, and returns what it removed.
func (h *Host) RemoveNetwork(ctx context.Context) ([]Act, error) {
	lock, err := h.Store.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	running, err := (&reconciler{Host: h}).endpoints()
	if err != nil {
		return nil, err
	}
	if len(running) > 0 {
		return nil, &Error{Kind: ErrState, Msg: fmt.Sprintf("cannot remove the tenants' network: %d of them run", len(running)), Hint: "mvm tenant stop; mvm tenant list shows which run"}
	}
	cfg := supervisor.NetworkConfig(h.Store, h.Config)
	remains, err := network.Remains(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if len(remains) > 0 {
		if err := h.record("", "net remove", map[string]any{"acts": removals(remains)}, nil); err != nil {
			return nil, err
		}
	}
	changes, err := network.CleanUp(ctx, cfg) // also where nothing shows: one that was killed may have left connections
	acts := removals(changes)
	return acts, h.recordFailure("", "net remove", map[string]any{"acts": acts}, err)
}

func removals(changes []network.Change) []Act {
	acts := make([]Act, len(changes))
	for i, c := range changes {
		acts[i] = Act{What: c.String()}
	}
	return acts
}
