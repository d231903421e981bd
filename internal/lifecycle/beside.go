package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// Beside is a volume that a tenant keeps beside its data.
type Beside struct {
	Mount     string `json:"mount"`
	Size      int64  `json:"size_bytes"`
	Allocated int64  `json:"allocated_bytes"` // on the host's disk
	Named     bool   `json:"named"`           // the spec names it: the guest gets it
}

// volumesBeside lists the volumes beside the data that were made.
func volumesBeside(t store.Tenant, spec tenant.Spec) ([]Beside, error) {
	list := []Beside{}
	mounts, err := mountsIn(t.VolumesDir())
	if err != nil {
		return nil, err
	}
	for _, mount := range mounts {
		if mount == tenant.DataMount {
			continue
		}
		path := t.Volume(tenant.Volume{Mount: mount})
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("cannot look at the volume %s: %w", mount, err)
		}
		list = append(list, Beside{Mount: mount, Size: info.Size(), Allocated: fileBytes(path), Named: spec.Volumes.Kept(mount) >= 0})
	}
	return list, nil
}

// mountsIn says which volumes' images are in a folder, by their mounts.
func mountsIn(dir string) ([]string, error) {
	mounts := []string{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) { // those hold none
		return nil, fmt.Errorf("cannot look for volumes: %w", err)
	}
	for _, e := range entries {
		if mount, ok := tenant.MountOf(e.Name()); ok && e.Type().IsRegular() {
			mounts = append(mounts, mount)
		}
	}
	return mounts, nil
}

// sizeMiB is how many MiB a volume has to be given for all of an image to fit.
func sizeMiB(image fs.FileInfo) int { return int((image.Size() + 1<<20 - 1) >> 20) }

// GrowVolume makes a volume larger that the tenant has.
func (h *Host) GrowVolume(ctx context.Context, id string, v tenant.Volume) (Changed, error) {
	missing := false
	done, err := h.Set(ctx, id, "/", func(s *tenant.Spec) {
		if missing = v.Mount != tenant.DataMount && s.Volumes.Kept(v.Mount) < 0; !missing {
			s.ChangeVolumes([]tenant.Volume{v})
		}
	})
	if err == nil && missing {
		err = &tenant.InputError{Msg: fmt.Sprintf("it has no volume %s that is kept", v.Mount), Hint: fmt.Sprintf("mvm tenant set %s --volume %s gives it one", id, v)}
	}
	return done, err
}

// VolumeRemains says whether there is anything of a volume beside the data that
// DestroyVolume would take away.
func (h *Host) VolumeRemains(id, mount string) (bool, error) {
	if mount == tenant.DataMount {
		return false, &tenant.InputError{Msg: "the data volume goes with its tenant", Hint: "mvm tenant destroy " + id}
	}
	if err := tenant.CheckMount(mount); err != nil {
		return false, err
	}
	spec, err := h.Store.LoadSpec(id)
	if err != nil {
		return false, err
	}
	if _, named := spec.Volumes.At(mount); named {
		return true, nil
	}
	t, v := h.Store.Tenant(id), tenant.Volume{Mount: mount}
	for _, path := range []string{t.Volume(v), t.GoingVolume(v)} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// DestroyVolume takes a volume beside the data away from a tenant that does not
// run, and keeps it aside unless it is to be wiped.
func (h *Host) DestroyVolume(ctx context.Context, id, mount string, wipe bool) (Destroyed, error) {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return Destroyed{}, err
	}
	defer lock.Unlock()
	if there, err := h.VolumeRemains(id, mount); err != nil || !there {
		return Destroyed{Already: err == nil}, err
	}
	if _, err := h.atRest(ctx, id); err != nil {
		return Destroyed{}, err
	}
	t, v := h.Store.Tenant(id), tenant.Volume{Mount: mount}
	var done Destroyed
	if !wipe && (exists(t.Volume(v)) || exists(t.GoingVolume(v))) {
		if done.Retained, err = h.retainedDir(id); err != nil {
			return Destroyed{}, err
		}
	}
	detail := map[string]any{"mount": mount, "wipe": wipe, "retained": done.Retained}
	err = sequence(ctx, "volume-destroy", []step{
		{"former", func(context.Context) error { return h.endAdoption(t) }},
		{"record", func(context.Context) error { return h.record(id, "volume destroy", detail, nil) }},
		{"spec", func(context.Context) error {
			spec, err := h.Store.LoadSpec(id)
			if err != nil {
				return err
			}
			spec.ChangeVolumes([]tenant.Volume{v}) // of neither size nor folder: none
			return h.Store.SaveSpec(spec)
		}},
		{"volume", func(context.Context) error {
			if wipe {
				return errors.Join(removeFile(t.Volume(v)), os.RemoveAll(t.GoingDir(v)))
			}
			return h.retainVolume(t, v, done.Retained)
		}},
	})
	return done, h.recordFailure(id, "volume destroy", detail, err)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// retainVolume moves one volume aside, into the folder dir of its own, which
// appears with the volume in it or not at all. What a call that was killed has
// begun is finished first.
func (h *Host) retainVolume(t store.Tenant, v tenant.Volume, dir string) error {
	going := t.GoingDir(v)
	for {
		if err := os.MkdirAll(going, 0o700); err != nil {
			return fmt.Errorf("cannot keep the volume: %w", err)
		}
		crash.Point("volume-destroy/aside")
		_, err := os.Lstat(t.GoingVolume(v))
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(t.Volume(v), t.GoingVolume(v))
			if errors.Is(err, fs.ErrNotExist) { // none is left, or none was ever made
				return os.Remove(going)
			}
			crash.Point("volume-destroy/moved")
		}
		if err != nil {
			return fmt.Errorf("cannot keep the volume: %w", err)
		}
		if err := os.Rename(going, dir); err != nil {
			return fmt.Errorf("cannot keep the volume: %w", err)
		}
		if err := errors.Join(atomicfile.SyncDir(h.Store.RetainedDir()), atomicfile.SyncDir(t.VolumesDir())); err != nil {
			return err
		}
		crash.Point("volume-destroy/kept")
		if dir, err = h.retainedDir(t.ID); err != nil { // for one that was made after an earlier call was killed
			return err
		}
	}
}
