package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/network/ipam"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// lease gives the tenant an address and writes its first state, with all that
// follows from the address. Both are written under one lock: whoever rebuilds
// the leases from the states finds that of a tenant that is being created, too.
func (h *Host) lease(ctx context.Context, spec tenant.Spec) (tenant.State, error) {
	id := spec.TenantID
	lock, err := h.Store.LockHost(ctx)
	if err != nil {
		return tenant.State{}, err
	}
	defer lock.Unlock()
	leases, err := h.leases()
	if err != nil {
		return tenant.State{}, err
	}
	ip, changed, err := leases.Lease(id)
	if err != nil {
		return tenant.State{}, err
	}
	if other, clash := tenant.Clash(h.Store.Scope, id, leases.IDs()); clash {
		return tenant.State{}, &tenant.InputError{Msg: fmt.Sprintf("the names derived from %s are those of tenant %s", id, other), Hint: "choose another id"}
	}
	if err := h.ownUsers(id, leases); err != nil {
		return tenant.State{}, err
	}
	if changed {
		if err := h.saveLeases(leases); err != nil {
			return tenant.State{}, err
		}
	}
	gateway := h.subnet()
	index, err := ipam.Index(gateway, ip)
	if err != nil {
		return tenant.State{}, err
	}
	now := time.Now().UTC()
	state := tenant.State{
		SchemaVersion: tenant.SchemaVersion, Instance: tenant.NewInstance(), Spec: spec, UID: h.Config.Limits.UIDBase + index,
		Net: tenant.Net{
			IP: ip.String(), Gateway: gateway.Addr().String(), CIDR: gateway.Masked().String(),
			MAC: tenant.MAC(h.Store.Scope, id).String(), TAP: tenant.TapName(h.Store.Scope, id),
			Bridge: supervisor.NetworkConfig(h.Store, h.Config).BridgeOf(ip),
		},
		CreatedAt: now, Phase: tenant.Created, Since: now,
	}
	return state, h.Store.CreateState(id, state)
}

// ownUsers refuses another tenant where the settings count users from a number
// so near that from which others have theirs that two could get the same one.
// Where one counts as the settings do, all who came after it passed here, and no
// more of them has to be read.
func (h *Host) ownUsers(id string, leases *ipam.Registry) error {
	base, size := h.Config.Limits.UIDBase, ipam.Size(h.subnet())
	for other := range leases.IDs() {
		if other == id {
			continue
		}
		state, err := h.Store.LoadState(other)
		if err != nil {
			continue // it is being created, or reconcile tells of it
		}
		ip, _ := leases.Lookup(other)
		index, err := ipam.Index(h.subnet(), ip)
		if err != nil {
			return err
		}
		switch from := state.UID - index; {
		case from == base:
			return nil
		case base-size < from && from < base+size:
			return &Error{
				Kind: ErrState, Msg: fmt.Sprintf("tenants have users counted from %d, and limits.uid_base is %d now: two could get the same one", from, base),
				Hint: fmt.Sprintf("set limits.uid_base back to %d, or to a number that is %d away", from, size),
			}
		}
	}
	return nil
}

// leases reads the registry of addresses. One that is damaged is rebuilt from
// the tenants' states. The caller holds the host lock.
func (h *Host) leases() (*ipam.Registry, error) {
	leases, damaged, err := h.readLeases()
	if damaged != nil && err == nil {
		h.Say("%v: rebuilt from the tenants' states", damaged)
	}
	return leases, err
}

// readLeases is leases, and says how the registry is damaged.
func (h *Host) readLeases() (leases *ipam.Registry, damaged *ipam.DamagedError, err error) {
	subnet := h.subnet()
	leases, err = ipam.Load(h.Store.LeasesFile(), subnet)
	var changed *ipam.SubnetChangedError
	if errors.As(err, &changed) {
		return nil, nil, &Error{
			Kind: ErrState, Msg: changed.Error(),
			Hint: fmt.Sprintf("set network.subnet back to %q, and destroy all tenants before you change it", changed.Leased),
		}
	}
	if !errors.As(err, &damaged) {
		return leases, nil, err
	}
	held, err := h.heldAddresses()
	if err != nil {
		return nil, damaged, err
	}
	leases, err = ipam.Rebuild(subnet, held)
	return leases, damaged, err
}

// subnet is the gateway's address with the prefix length; config has checked
// that it is one.
func (h *Host) subnet() netip.Prefix { return netip.MustParsePrefix(h.Config.Network.Subnet) }

// heldAddresses are those of all tenants, also of those that are only being
// created, or whose create was killed.
func (h *Host) heldAddresses() (map[string]netip.Addr, error) {
	ids, err := h.Store.Folders()
	if err != nil {
		return nil, err
	}
	held := map[string]netip.Addr{}
	for _, id := range ids {
		if tenant.CheckID(id) != nil {
			continue
		}
		created := h.Store.Exists(id)
		state, err := h.Store.LoadState(id)
		if errors.Is(err, store.ErrNotFound) || err != nil && !created {
			continue // it has no address yet, or was destroyed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("cannot rebuild the leases: %w", err)
		}
		addr, err := netip.ParseAddr(state.Net.IP)
		if err != nil {
			return nil, fmt.Errorf("cannot rebuild the leases: tenant %s has address %q", id, state.Net.IP)
		}
		held[id] = addr
	}
	return held, nil
}

func (h *Host) saveLeases(leases *ipam.Registry) error {
	data, err := leases.Bytes()
	if err != nil {
		return err
	}
	return atomicfile.Write(h.Store.LeasesFile(), data, 0o600)
}

// release gives the address back.
func (h *Host) release(ctx context.Context, id string) error {
	lock, err := h.Store.LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	leases, err := h.leases()
	if err != nil {
		return err
	}
	if !leases.Release(id) {
		return nil
	}
	return h.saveLeases(leases)
}
