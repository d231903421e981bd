package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// AdoptVolume gives a tenant that does not run the volumes back that
// DestroyVolume kept of it under that name, and says which: none where nothing
// is kept under it any more.
func (h *Host) AdoptVolume(ctx context.Context, id, name string) (tenant.Volumes, error) {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	state, err := h.atRest(ctx, id)
	if err != nil {
		return nil, err
	}
	spec, err := h.Store.LoadSpec(id)
	if err != nil {
		return nil, err
	}
	adopted, err := h.adoptable(id, name)
	if err != nil || len(adopted) == 0 {
		return nil, err
	}
	spec.ChangeVolumes(adopted)
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	t, from := h.Store.Tenant(id), filepath.Join(h.Store.RetainedDir(), name)
	detail := map[string]any{"name": name, "volumes": adopted.String()}
	err = sequence(ctx, "volume-adopt", []step{
		{"own", func(context.Context) error { return own(from, state.UID) }},
		{"take", func(context.Context) error { return take(adopted, from, t) }},
		{"spec", func(context.Context) error { return h.Store.SaveSpec(spec) }},
		{"record", func(context.Context) error { return h.record(id, "volume adopt", detail, nil) }},
		{"former", func(context.Context) error { return os.RemoveAll(from) }},
	})
	return adopted, h.recordFailure(id, "volume adopt", detail, err)
}

// take gives the volumes' images in from a second name among the tenant's, so
// that a call that is killed finds them again.
func take(volumes tenant.Volumes, from string, t store.Tenant) error {
	for _, v := range volumes {
		image := filepath.Join(from, v.FileName())
		if err := os.Link(image, t.Volume(v)); err != nil && !sameFile(image, t.Volume(v)) {
			return fmt.Errorf("cannot adopt the volume %s: %w", v.Mount, err)
		}
	}
	return atomicfile.SyncDir(t.VolumesDir())
}

// adoptable are the volumes that are kept under that name, if the tenant can
// have them back.
func (h *Host) adoptable(id, name string) (tenant.Volumes, error) {
	there, err := h.RetainedRemains(name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.Store.RetainedDir(), name)
	mounts, err := mountsIn(dir)
	if err != nil {
		return nil, err
	}
	owner, _, _ := cutLast(name, "-")
	switch {
	case owner != id:
		return nil, &tenant.InputError{Msg: fmt.Sprintf("%s was not a volume of tenant %s", name, id), Hint: "mvm retained list shows what is kept"}
	case !there, len(mounts) == 0 && os.Remove(dir) == nil: // an empty one is the end of a call that was killed
		return nil, nil
	case slices.Contains(mounts, tenant.DataMount) || len(mounts) == 0:
		return nil, &tenant.InputError{Msg: name + " is all that a tenant had, its data too", Hint: "mvm tenant create --adopt-volumes takes it"}
	}
	var all tenant.Volumes
	for _, mount := range mounts {
		v := tenant.Volume{Mount: mount}
		image, own := filepath.Join(dir, v.FileName()), h.Store.Tenant(id).Volume(v)
		info, err := os.Stat(image)
		if err != nil {
			return nil, fmt.Errorf("cannot look at the retained volume: %w", err)
		}
		if _, err := os.Lstat(own); err == nil && !sameFile(image, own) {
			return nil, &Error{Kind: ErrState, Msg: "it has a volume " + mount + " already", Hint: fmt.Sprintf("mvm tenant volume destroy %s %s", id, mount)}
		}
		v.SizeMiB = sizeMiB(info)
		all = append(all, v)
	}
	return all, nil
}

func sameFile(a, b string) bool {
	one, err := os.Lstat(a)
	if err != nil {
		return false
	}
	other, err := os.Lstat(b)
	return err == nil && os.SameFile(one, other)
}

// takenFrom are those of the volumes kept under that name that the tenant has,
// too, by an adoption that was killed; kept is how many there are in all.
func (h *Host) takenFrom(name string, t store.Tenant) (taken []tenant.Volume, kept int, err error) {
	dir := filepath.Join(h.Store.RetainedDir(), name)
	mounts, err := mountsIn(dir)
	for _, mount := range mounts {
		v := tenant.Volume{Mount: mount}
		if sameFile(filepath.Join(dir, v.FileName()), t.Volume(v)) {
			taken = append(taken, v)
		}
	}
	return taken, len(mounts), err
}

// endAdoption takes what the tenant has from what is kept aside of it: an
// adoption that was killed has left its images a second name there, under which
// they would outlive even a wipe.
func (h *Host) endAdoption(t store.Tenant) error {
	names, err := h.Retained(t.ID)
	if err != nil {
		return err
	}
	for _, name := range names {
		taken, kept, err := h.takenFrom(name, t)
		if err != nil {
			return err
		}
		if len(taken) == 0 {
			continue
		}
		dir := filepath.Join(h.Store.RetainedDir(), name)
		for _, v := range taken {
			if err := errors.Join(atomicfile.SyncDir(t.VolumesDir()), os.Remove(filepath.Join(dir, v.FileName()))); err != nil {
				return fmt.Errorf("cannot end the adoption of the volume %s: %w", v.Mount, err)
			}
		}
		if len(taken) == kept {
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("cannot end an adoption: %w", err)
			}
		}
		if err := atomicfile.SyncDir(h.Store.RetainedDir()); err != nil {
			return err
		}
	}
	return nil
}

// checkAdoptionEnded refuses to remove what is kept for good while the tenant
// has a name for it, too: an adoption was killed before the spec named it, and
// the data would stay where nobody looks for it.
func (h *Host) checkAdoptionEnded(id, name string) error {
	taken, _, err := h.takenFrom(name, h.Store.Tenant(id))
	if err != nil || len(taken) == 0 {
		return err
	}
	spec, err := h.Store.LoadSpec(id)
	if err != nil {
		return err
	}
	for _, v := range taken {
		if _, named := spec.Volumes.At(v.Mount); !named {
			return &Error{
				Kind: ErrState, Msg: fmt.Sprintf("tenant %s has it already, by an adoption that was cut short", id),
				Hint: fmt.Sprintf("end that: mvm tenant volume adopt %s %s; or remove it: mvm tenant volume destroy %[1]s %[3]s --wipe", id, name, v.Mount),
			}
		}
	}
	return nil
}

// withData are the names of those retained folders that hold a data volume.
func (h *Host) withData(names []string) (whole []string, err error) {
	for _, name := range names {
		mounts, err := mountsIn(filepath.Join(h.Store.RetainedDir(), name))
		if err != nil {
			return nil, err
		}
		if slices.Contains(mounts, tenant.DataMount) {
			whole = append(whole, name)
		}
	}
	return whole, nil
}
