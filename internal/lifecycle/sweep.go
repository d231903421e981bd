package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// sweep takes away what a run of the tenant may have left outside of its
// folder, or for that run alone in it: processes, TAP and firewall elements,
// cgroup, copies of the host's folders, sockets. The caller holds the tenant's
// lock; where a supervisor lives nothing is touched.
func (h *Host) sweep(ctx context.Context, id string) error {
	alive, err := h.Store.SupervisorAlive(id)
	if err != nil {
		return err
	}
	if alive {
		return fmt.Errorf("cannot sweep %s: its supervisor lives", id)
	}
	if err := h.sweepCgroup(ctx, id); err != nil {
		return err
	}
	if err := h.sweepNetwork(ctx, id); err != nil {
		return err
	}
	t := h.Store.Tenant(id)
	if err := os.RemoveAll(t.RunDir()); err != nil {
		return fmt.Errorf("cannot remove the sockets of %s: %w", id, err)
	}
	return sweepFiles(t)
}

// sweepLast sweeps after the last run, if that has not been done: a run begins
// with the folder of its sockets, and a sweep ends with its removal, as does a
// supervisor that was stopped and took everything away. What else a killed
// reconcile may have left of it is the next run's own to find and use. The
// folder goes with a reboot, too, which takes nothing of the tenant's own.
func (h *Host) sweepLast(ctx context.Context, id string) error {
	_, err := os.Lstat(h.Store.Tenant(id).RunDir())
	if errors.Is(err, fs.ErrNotExist) {
		return sweepFiles(h.Store.Tenant(id))
	}
	return h.sweep(ctx, id)
}

// sweepFiles removes what killed writers of the tenant's files left, and the
// copies of the host's folders that a run had for itself.
func sweepFiles(t store.Tenant) error {
	err := os.RemoveAll(t.FoldersDir())
	if err != nil {
		err = fmt.Errorf("cannot remove the copies of folders of %s: %w", t.ID, err)
	}
	for _, dir := range t.WrittenDirs() {
		err = errors.Join(err, atomicfile.Sweep(dir))
	}
	return err
}

// filesLeft lists what sweepFiles would remove.
func filesLeft(t store.Tenant) (left []string, err error) {
	if exists(t.FoldersDir()) {
		left = append(left, t.FoldersDir())
	}
	for _, dir := range t.WrittenDirs() {
		more, dirErr := atomicfile.Leftovers(dir)
		left, err = append(left, more...), errors.Join(err, dirErr)
	}
	return left, err
}

// atRest makes sure that nothing uses the tenant's volumes: no supervisor, and
// no VMM that the kernel has yet to end after its supervisor's death. The
// caller holds the tenant's lock.
func (h *Host) atRest(ctx context.Context, id string) (tenant.State, error) {
	status, err := h.Observe(id)
	if err != nil {
		return tenant.State{}, err
	}
	alive, err := h.Store.SupervisorAlive(id)
	if err != nil {
		return tenant.State{}, err
	}
	if alive {
		return tenant.State{}, &Error{Kind: ErrState, Msg: status.Words(), Hint: h.Command("stop", id)}
	}
	if live(status.State.Phase) {
		return status.State, h.sweep(ctx, id)
	}
	return status.State, nil
}

// sweepCgroup also ends what still runs in it.
func (h *Host) sweepCgroup(ctx context.Context, id string) error {
	groups, err := cgroup.Detect()
	if err != nil {
		return err
	}
	group, err := groups.Group(supervisor.CgroupParent(h.Store), tenant.ShortHash(id))
	if err != nil {
		return err
	}
	return group.Remove(ctx)
}

// sweepNetwork works from the lease, because the state may be unreadable.
func (h *Host) sweepNetwork(ctx context.Context, id string) error {
	shared, err := h.Store.ShareNetwork(ctx)
	if err != nil {
		return err
	}
	defer shared.Unlock()
	lock, err := h.Store.LockHost(ctx)
	if err != nil {
		return err
	}
	leases, err := h.leases()
	lock.Unlock()
	if err != nil {
		return err
	}
	ip, leased := leases.Lookup(id)
	if !leased {
		return nil // without an address nothing was ever attached
	}
	return network.Detach(ctx, supervisor.NetworkConfig(h.Store, h.Config), network.Endpoint{
		TAP: tenant.TapName(h.Store.Scope, id), MAC: tenant.MAC(h.Store.Scope, id), IP: ip,
		Policy: network.Policy{Mode: network.None}, // whatever it was, it goes
	})
}
