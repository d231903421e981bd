package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/network/ipam"
	"github.com/auser/mvm/internal/proc"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// Act is one thing that reconcile did, or in a dry run would do.
type Act struct {
	Tenant string `json:"tenant,omitempty"`
	What   string `json:"what"`
	Error  string `json:"error,omitempty"`
}

func (a Act) String() string {
	text := a.What
	if a.Tenant != "" {
		text = a.Tenant + ": " + text
	}
	if a.Error != "" {
		text += ": failed: " + a.Error
	}
	return text
}

// reconciler collects the acts of one reconcile.
type reconciler struct {
	*Host
	dryRun bool
	acts   []Act
	failed error
}

// do reports an act and, unless this is a dry run, carries it out. One that
// fails does not keep the others from being done.
func (r *reconciler) do(id, what string, act func() error) {
	a := Act{Tenant: id, What: what}
	if !r.dryRun {
		if err := act(); err != nil {
			a.Error = err.Error()
			r.failed = errors.Join(r.failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	r.acts = append(r.acts, a)
}

// Reconcile brings everything to what specs and states say: sweeps what
// belongs to nobody, restores the network and starts what should run. It goes
// on after a failure and returns all that it did.
func (h *Host) Reconcile(ctx context.Context, dryRun bool) ([]Act, error) {
	r := &reconciler{Host: h, dryRun: dryRun}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"remove what belongs to no tenant", r.leftovers},
		{"look after the tenants", r.tenants},
		{"sweep cgroups", r.cgroups},
		{"sweep sockets", r.sockets},
		{"release addresses", r.addresses},
		{"sweep builds", r.builds},
		{"restore the network", r.network},
		{"start what should run", r.starts},
	} {
		err := step.do(ctx)
		crash.Point("reconcile/" + step.what)
		if err != nil {
			r.failed = errors.Join(r.failed, fmt.Errorf("cannot %s: %w", step.what, err))
		}
		if ctx.Err() != nil {
			r.failed = errors.Join(r.failed, ctx.Err())
			break
		}
	}
	if len(r.acts) > 0 && !dryRun {
		r.failed = h.record("", "reconcile", map[string]any{"acts": r.acts}, r.failed)
	}
	return r.acts, r.failed
}

// tryLock locks a tenant unless another command is at work on it: then there
// is nothing for reconcile to do.
func (r *reconciler) tryLock(ctx context.Context, id string) (*store.Lock, error) {
	lock, err := r.Store.LockTenant(ctx, id, 0)
	var busy *store.BusyError
	if errors.As(err, &busy) {
		return nil, nil
	}
	return lock, err
}

// leftovers removes folders of a create or destroy that was cut short.
func (r *reconciler) leftovers(ctx context.Context) error {
	names, err := r.Store.Leftovers()
	if err != nil {
		return err
	}
	for _, name := range names {
		id := strings.TrimPrefix(name, ".gone-")
		if tenant.CheckID(id) != nil {
			continue // not a name that mvm makes: somebody's own
		}
		lock, err := r.tryLock(ctx, id)
		if err != nil {
			return err
		}
		if lock == nil {
			continue
		}
		if !r.Store.Exists(id) {
			r.do(id, "remove what a create or destroy left behind", func() error {
				_, err := r.destroy(ctx, id, false, DestroyOptions{})
				return err
			})
		}
		lock.Unlock()
	}
	return nil
}

// tenants sweeps after supervisors that ended without tidying up.
func (r *reconciler) tenants(ctx context.Context) error {
	ids, err := r.Store.IDs()
	if err != nil {
		return err
	}
	// Nearly all need nothing: look first, then lock.
	needed, errs := make([]bool, len(ids)), make([]error, len(ids))
	parallel(len(ids), func(i int) { needed[i], errs[i] = r.needsSweep(ids[i]) })
	for i, id := range ids {
		err := errs[i]
		if needed[i] {
			err = r.tenant(ctx, id)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) { // destroyed meanwhile
			r.acts = append(r.acts, Act{Tenant: id, What: "look at it", Error: err.Error()})
			r.failed = errors.Join(r.failed, err)
		}
	}
	return nil
}

// needsSweep says whether the tenant may have something to sweep.
func (r *reconciler) needsSweep(id string) (bool, error) {
	state, err := r.Store.LoadState(id)
	if err != nil || live(state.Phase) {
		return err == nil, err
	}
	left, err := filesLeft(r.Store.Tenant(id))
	return len(left) > 0, err
}

func (r *reconciler) tenant(ctx context.Context, id string) error {
	lock, err := r.tryLock(ctx, id)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Unlock()
	status, err := r.Observe(id)
	if err != nil {
		return err
	}
	alive, err := r.Store.SupervisorAlive(id)
	if err != nil || alive {
		return err
	}
	if !live(status.State.Phase) {
		// What is still there now is no living writer's.
		t := r.Store.Tenant(id)
		left, err := filesLeft(t)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			r.do(id, "remove what a killed write or run left", func() error { return sweepFiles(t) })
		}
		return nil
	}
	r.do(id, fmt.Sprintf("sweep after its run (%s)", status.Reason), func() error {
		if err := r.sweep(ctx, id); err != nil {
			return err
		}
		return r.Store.UpdateState(id, func(s *tenant.State) error {
			if !live(s.Phase) {
				return nil // its supervisor had the last word after all
			}
			s.Phase, s.Reason, s.Since = status.Phase, status.Reason, time.Now().UTC()
			s.ForgetProcesses()
			return nil
		})
	})
	return nil
}

// addresses releases those of tenants that do not exist.
func (r *reconciler) addresses(ctx context.Context) error {
	lock, err := r.Store.LockHost(ctx)
	if err != nil {
		return err
	}
	leases, damaged, err := r.readLeases()
	if damaged != nil && err == nil {
		r.do("", fmt.Sprintf("rebuild the addresses from the tenants' states: %v", damaged), func() error { return r.saveLeases(leases) })
	}
	if !r.dryRun {
		err = errors.Join(err, r.Store.SweepHostTemp())
	}
	lock.Unlock()
	if err != nil {
		return err
	}
	for id := range leases.Leases() {
		if r.Store.Begun(id) {
			continue // whatever removes its folder releases its address
		}
		lock, err := r.tryLock(ctx, id)
		if err != nil {
			return err
		}
		if lock == nil {
			continue // it is being created or destroyed
		}
		if !r.Store.Begun(id) {
			r.do(id, "release its address", func() error { return r.release(ctx, id) })
		}
		lock.Unlock()
	}
	return nil
}

// builds sweeps the containers of killed builds, and what tenants that are gone
// left in an engine that did not answer when they were destroyed.
func (r *reconciler) builds(ctx context.Context) error {
	dirs, err := os.ReadDir(r.Store.BuildsDir())
	if err != nil || len(dirs) == 0 {
		return err
	}
	tryLock := r.tryBuildLock(ctx)
	for _, d := range dirs {
		id := d.Name()
		if tenant.CheckID(id) != nil || r.Store.Exists(id) {
			continue
		}
		release, ok, err := tryLock(id)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if !r.Store.Exists(id) { // nobody has created it meanwhile
			r.do(id, "remove its Nix store and build folder", func() error { return r.removeBuilds(ctx, id) })
		}
		release()
	}
	if r.dryRun {
		return nil
	}
	engines, err := r.enginesInUse(ctx)
	if err != nil {
		return err
	}
	for _, engine := range engines {
		swept, err := build.SweepContainers(ctx, engine, r.Store.Scope, tryLock)
		for _, name := range swept {
			r.acts = append(r.acts, Act{What: "removed the build container " + name})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// network restores the links and rules of what runs and removes all others.
func (r *reconciler) network(ctx context.Context) error {
	lock, err := r.Store.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	eps, err := r.endpoints()
	if err != nil {
		return err
	}
	slices.SortFunc(eps, func(a, b network.Endpoint) int { return a.IP.Compare(b.IP) })
	restore := network.Reconcile
	if r.dryRun {
		restore = network.Check
	}
	changes, err := restore(ctx, supervisor.NetworkConfig(r.Store, r.Config), eps)
	for _, c := range changes {
		r.acts = append(r.acts, Act{What: c.String()})
	}
	return err
}

// endpoints are the places in the network of all tenants with a living
// supervisor. They follow from the id, the lease and the spec: a damaged state
// costs no running tenant its network.
func (r *reconciler) endpoints() ([]network.Endpoint, error) {
	ids, err := r.Store.IDs()
	if err != nil {
		return nil, err
	}
	leases, err := r.leases()
	if err != nil {
		return nil, err
	}
	held := leases.Leases()
	living, errs := make([]bool, len(ids)), make([]error, len(ids))
	parallel(len(ids), func(i int) { living[i], errs[i] = r.Store.SupervisorAlive(ids[i]) })
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var eps []network.Endpoint
	for i, id := range ids {
		ip, leased := held[id]
		if !living[i] || !leased {
			continue
		}
		policy := network.Policy{Mode: network.None} // of a spec that cannot be read
		if spec, err := r.Store.LoadSpec(id); err == nil {
			if policy, err = supervisor.Policy(spec.Egress); err != nil {
				return nil, err
			}
		}
		uid, err := r.userOf(id, ip)
		if err != nil {
			return nil, err
		}
		status, err := r.Observe(id)
		eps = append(eps, network.Endpoint{
			TAP: tenant.TapName(r.Store.Scope, id), MAC: tenant.MAC(r.Store.Scope, id), IP: ip,
			UID: uid, GID: uid, Policy: policy, Passing: err == nil && !status.Running,
		})
	}
	return eps, nil
}

// userOf is the uid that the tenant's VMM runs as, which is not always what the
// settings would give it now. Where its state cannot be read, its data volume
// tells.
func (r *reconciler) userOf(id string, ip netip.Addr) (uid int, err error) {
	if state, err := r.Store.LoadState(id); err == nil {
		return state.UID, nil
	}
	var volume unix.Stat_t
	if unix.Stat(r.Store.Tenant(id).DataVolume(), &volume) == nil {
		return int(volume.Uid), nil
	}
	index, err := ipam.Index(r.subnet(), ip)
	return r.Config.Limits.UIDBase + index, err
}

// starts runs what should run: what was running when the host went down or
// its supervisor died, if its restart policy says so.
func (r *reconciler) starts(ctx context.Context) error {
	names, err := r.Store.Folders()
	if err != nil {
		return err
	}
	wanted := make([]bool, len(names))
	parallel(len(names), func(i int) { wanted[i] = r.shouldStart(names[i]) })
	for i, id := range names {
		if !wanted[i] {
			continue
		}
		lock, err := r.tryLock(ctx, id)
		if err != nil {
			return err
		}
		if lock == nil {
			continue
		}
		if r.shouldStart(id) { // still: nobody has stopped, started or destroyed it
			r.do(id, "start it", func() error { return r.startAgain(ctx, id, lock) })
		}
		lock.Unlock()
	}
	return nil
}

// startAgain starts a tenant that nobody waits for. What only fails now is tried
// again by its supervisor; a start that did not get that far is said by its
// state, and is the next reconcile's to try again.
func (r *reconciler) startAgain(ctx context.Context, id string, lock *store.Lock) error {
	_, err := r.startLocked(ctx, id, lock, supervisor.Insist, func(supervisor.Progress) {})
	if err == nil || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, r.Store.UpdateState(id, func(s *tenant.State) error {
		if s.Wanted && !live(s.Phase) && s.Phase != tenant.Failed {
			s.Phase, s.Reason, s.Since = tenant.Failed, "it could not be started: "+err.Error(), time.Now().UTC()
		}
		return nil
	}))
}

// shouldStart says whether there is such a tenant which should run and does
// not. One that cannot be read was reported before.
func (r *reconciler) shouldStart(id string) bool {
	status, err := r.Observe(id)
	if err != nil || live(status.Phase) {
		return false
	}
	boot, err := proc.BootID()
	if err != nil {
		return false
	}
	policy, err := tenant.ParseRestart(status.Spec.Restart)
	return err == nil && shouldRun(policy.Mode, status.State, boot)
}

// shouldRun applies the restart policy to a tenant that does not run, in this
// boot of the host. A crash loop that ended is over until somebody runs it, or
// the host is another; a start that failed is worth another.
func shouldRun(mode tenant.RestartMode, s tenant.State, boot string) bool {
	switch mode {
	case tenant.RestartAlways:
		return s.Wanted || !s.LastStartedAt.IsZero()
	case tenant.RestartUnlessStopped, tenant.RestartOnFailure:
		return s.Wanted && !(s.GaveUp && s.BootID == boot)
	}
	return false
}
