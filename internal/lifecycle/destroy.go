package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// DestroyOptions is what destroy needs to know.
type DestroyOptions struct {
	WipeVolumes bool // remove the data volume instead of keeping it aside
}

// Destroyed is what destroy did.
type Destroyed struct {
	Already  bool
	Retained string // the kept data volume's folder
}

// Remains says whether there is anything of a tenant that Destroy would remove.
// It fails as Destroy does where there never was such a tenant.
func (h *Host) Remains(id string) (bool, error) {
	if err := tenant.CheckID(id); err != nil {
		return false, err
	}
	leftovers, err := h.hasLeftovers(id)
	if err != nil {
		return false, err
	}
	if !h.Store.Known(id) && !leftovers {
		return false, fmt.Errorf("%w: %s", store.ErrNotFound, id)
	}
	return h.Store.Exists(id) || leftovers, nil
}

// Destroy removes the tenant and everything that bears its name, whether it
// is whole, half created or half destroyed. Only its audit record and, unless
// told otherwise, its data volume stay.
func (h *Host) Destroy(ctx context.Context, id string, o DestroyOptions) (Destroyed, error) {
	if err := tenant.CheckID(id); err != nil {
		return Destroyed{}, err
	}
	build, err := h.Store.LockBuild(ctx, id, h.Wait)
	if err != nil {
		return Destroyed{}, err
	}
	defer build.Unlock()
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return Destroyed{}, err
	}
	defer lock.Unlock()
	if there, err := h.Remains(id); err != nil || !there {
		return Destroyed{Already: err == nil}, err
	}
	done, err := h.destroy(ctx, id, h.Store.Exists(id), o)
	return done, h.recordFailure(id, "destroy", destroyDetail(o, done), err)
}

func (h *Host) destroy(ctx context.Context, id string, existed bool, o DestroyOptions) (Destroyed, error) {
	var done Destroyed
	err := sequence(ctx, "destroy", []step{
		{"stop", func(ctx context.Context) error {
			return h.stopForGood(ctx, id, existed)
		}},
		{"sweep", func(ctx context.Context) error { return h.sweep(ctx, id) }},
		{"former", func(context.Context) error { return h.endAdoption(h.Store.Tenant(id)) }},
		{"retain", func(context.Context) (err error) {
			if !o.WipeVolumes && (existed || h.usedOnce(id)) {
				done.Retained, err = h.retain(id)
			}
			return err
		}},
		{"build", func(ctx context.Context) error { return h.removeBuilds(ctx, id) }},
		{"record", func(context.Context) error { return h.record(id, "destroy", destroyDetail(o, done), nil) }},
		{"folder", func(context.Context) error { return h.Store.Remove(id) }},
		{"lease", func(ctx context.Context) error { return h.release(ctx, id) }},
	})
	return done, err
}

// usedOnce says whether what a create that was killed left may hold anything: an
// adopted volume does, and one that was made for it does not. Where that cannot
// be told, it may.
func (h *Host) usedOnce(id string) bool {
	t := h.Store.Tenant(id)
	info, err := volume.Inspect(t.DataVolume())
	if err != nil || !info.Fresh || adopted(t) {
		return true
	}
	state, err := h.Store.LoadState(id)
	return err != nil || state.Phase != tenant.Created
}

func destroyDetail(o DestroyOptions, done Destroyed) map[string]any {
	return map[string]any{"wipe_volumes": o.WipeVolumes, "retained": done.Retained}
}

// stopForGood stops a tenant that is to go. A state that is missing or cannot
// be read does not save it: its supervisor needs none to be asked.
func (h *Host) stopForGood(ctx context.Context, id string, existed bool) error {
	if existed {
		_, err := h.stop(ctx, id, StopOptions{})
		var damaged *store.DamagedError
		if !errors.As(err, &damaged) {
			return err
		}
		h.Say("  %v", damaged)
	}
	alive, err := h.Store.SupervisorAlive(id)
	if err != nil || !alive {
		return err
	}
	return h.askSupervisor(ctx, id, StopOptions{})
}

// retain moves the data volume aside. The folder appears with the volume in
// it or not at all.
func (h *Host) retain(id string) (string, error) {
	t := h.Store.Tenant(id)
	if _, err := os.Lstat(t.DataVolume()); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("cannot keep the data volume: %w", err)
	}
	dir, err := h.retainedDir(id)
	if err == nil {
		err = os.Rename(t.VolumesDir(), dir)
	}
	if err != nil {
		return "", fmt.Errorf("cannot keep the data volume: %w", err)
	}
	return dir, atomicfile.SyncDir(h.Store.RetainedDir())
}

// hasLeftovers says whether anything on disk still bears the tenant's name.
func (h *Host) hasLeftovers(id string) (bool, error) {
	t := h.Store.Tenant(id)
	for _, path := range []string{t.Dir, t.RunDir(), h.Store.BuildDir(id), h.Store.GoneDir(id)} {
		if _, err := os.Lstat(path); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	leases, err := h.leases()
	if err != nil {
		return false, err
	}
	_, leased := leases.Lookup(id)
	return leased, nil
}
