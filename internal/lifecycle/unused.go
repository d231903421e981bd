package lifecycle

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// eachUnused does act for each of what list finds, which bear the short hashes
// of tenants, unless the tenant's supervisor lives or a command is at work on
// it.
func (r *reconciler) eachUnused(ctx context.Context, list func() ([]string, error), what string, act func(hash string) error) error {
	found, err := list()
	if err != nil || len(found) == 0 {
		return err
	}
	ids, err := r.Store.IDs()
	if err != nil {
		return err
	}
	owners := make(map[string]string, len(ids))
	for _, id := range ids {
		owners[tenant.ShortHash(id)] = id
	}
	for _, hash := range found {
		unlock, err := r.claim(ctx, hash, owners[hash])
		if err != nil {
			return err
		}
		if unlock == nil {
			continue
		}
		// A command may have removed it since it was listed.
		left, err := list()
		if slices.Contains(left, hash) {
			r.do(cmp.Or(owners[hash], r.Store.Activated(hash)), what+hash, func() error { return act(hash) })
		}
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// claim keeps others from what bears the hash of the tenant id; nil where it is
// in use. Every run begins with a volatile folder that names its tenant. Where
// there is neither such a folder nor such a tenant it is nobody's, and stays so
// while the host is locked.
func (r *reconciler) claim(ctx context.Context, hash, id string) (unlock func(), err error) {
	if id = cmp.Or(id, r.Store.Activated(hash)); id == "" {
		lock, err := r.Store.LockHost(ctx)
		if err != nil {
			return nil, err
		}
		if r.Store.Activated(hash) != "" { // a run has begun
			lock.Unlock()
			return nil, nil
		}
		return lock.Unlock, nil
	}
	if alive, err := r.Store.SupervisorAlive(id); err != nil || alive {
		return nil, err
	}
	lock, err := r.tryLock(ctx, id)
	if err != nil || lock == nil {
		return nil, err
	}
	if alive, err := r.Store.SupervisorAlive(id); err != nil || alive {
		lock.Unlock()
		return nil, err
	}
	return lock.Unlock, nil
}

func (r *reconciler) cgroups(ctx context.Context) error {
	host, err := cgroup.Detect()
	if err != nil {
		return err
	}
	parent := supervisor.CgroupParent(r.Store)
	list := func() ([]string, error) { return host.List(parent) }
	return r.eachUnused(ctx, list, "remove the cgroup "+parent+"/", func(hash string) error {
		group, err := host.Group(parent, hash)
		if err != nil {
			return err
		}
		return group.Remove(ctx)
	})
}

func (r *reconciler) sockets(ctx context.Context) error {
	return r.eachUnused(ctx, r.Store.Activations, "remove "+r.Store.RunDir+"/", func(hash string) error {
		return os.RemoveAll(filepath.Join(r.Store.RunDir, hash))
	})
}
