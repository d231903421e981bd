package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// Volume is a tenant's data volume and its snapshots.
type Volume struct {
	Path       string     `json:"path"`
	Size       int64      `json:"size_bytes"`
	Allocated  int64      `json:"allocated_bytes"` // on the host's disk, shared blocks included
	FileSystem int64      `json:"file_system_bytes"`
	Used       int64      `json:"used_bytes"` // of the file system; while it runs, as of the last unmount
	Dirty      bool       `json:"dirty"`      // not unmounted cleanly, or mounted now
	Errors     bool       `json:"errors"`     // the guest's kernel met errors
	Snapshots  []Snapshot `json:"snapshots"`
	Beside     []Beside   `json:"beside"`
}

// Snapshot is a state of a data volume that was kept.
type Snapshot struct {
	Name      string    `json:"name"`
	Time      time.Time `json:"time"`
	Size      int64     `json:"size_bytes"`
	Allocated int64     `json:"allocated_bytes"`
}

// ShowVolume looks at a tenant's data volume.
func (h *Host) ShowVolume(id string) (Volume, error) {
	spec, err := h.Store.LoadSpec(id)
	if err != nil {
		return Volume{}, err
	}
	t := h.Store.Tenant(id)
	info, err := volume.Inspect(t.DataVolume())
	if err != nil {
		return Volume{}, err
	}
	v := Volume{
		Path: t.DataVolume(), Size: info.Size, Allocated: info.Allocated, FileSystem: info.FileSystem,
		Used: info.Used, Dirty: info.Dirty, Errors: info.Errors, Snapshots: []Snapshot{},
	}
	if v.Beside, err = volumesBeside(t, spec); err != nil {
		return v, err
	}
	list, err := volume.Snapshots(t.SnapshotsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	for _, s := range list {
		v.Snapshots = append(v.Snapshots, Snapshot(s))
	}
	return v, nil
}

// CheckVolume reads the whole volume. With repair, what is wrong is put right
// as far as it can be, and what e2fsck said is returned.
func (h *Host) CheckVolume(ctx context.Context, id string, repair bool) (said string, err error) {
	act := "volume check"
	if repair {
		act = "volume repair"
	}
	err = h.withVolume(ctx, id, act, nil, func(t store.Tenant, _ tenant.State) error {
		if repair {
			said, err = volume.Repair(ctx, t.DataVolume())
			return err
		}
		r, err := volume.Check(ctx, t.DataVolume())
		said = r.Note
		return err
	})
	return said, err
}

// TrimVolume gives the host back what the guest deleted.
func (h *Host) TrimVolume(ctx context.Context, id string) (freed int64, err error) {
	err = h.withVolume(ctx, id, "volume trim", nil, func(t store.Tenant, _ tenant.State) error {
		freed, err = volume.Trim(ctx, t.DataVolume())
		return err
	})
	return freed, err
}

// ExportVolume writes the volume to w as a stream that ImportVolume reads.
func (h *Host) ExportVolume(ctx context.Context, id string, w io.Writer) error {
	return h.withVolume(ctx, id, "volume export", nil, func(t store.Tenant, _ tenant.State) error {
		return volume.Export(ctx, t.DataVolume(), w)
	})
}

// ImportVolume puts the stream's volume in the place of the tenant's.
func (h *Host) ImportVolume(ctx context.Context, id string, r io.Reader) (said string, err error) {
	err = h.withVolume(ctx, id, "volume import", nil, func(t store.Tenant, s tenant.State) error {
		spec, err := h.Store.LoadSpec(id)
		if err != nil {
			return err
		}
		size := int64(spec.DataMiB) << 20
		rep, err := volume.Import(ctx, t.DataVolume(), r, volume.ImportOptions{
			MaxBytes: size, MinBytes: size, UID: s.UID, GID: s.UID, Replace: true,
		})
		said = rep.Note
		return err
	})
	return said, err
}

// SnapshotVolume keeps the present state under a name; already says that it was
// kept under that name before. A tenant that runs can be snapshotted where the
// file system shares blocks.
func (h *Host) SnapshotVolume(ctx context.Context, id, name string) (shared, already bool, err error) {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return false, false, err
	}
	defer lock.Unlock()
	status, err := h.Observe(id)
	if err != nil {
		return false, false, err
	}
	if err := checkSnapshotName(name); err != nil {
		return false, false, err
	}
	t, runs := h.Store.Tenant(id), live(status.Phase)
	if !runs {
		if already, err = volume.Kept(t.DataVolume(), t.SnapshotsDir(), name); err != nil {
			return false, already, err
		}
	}
	if already { // by one that may have been killed before it was on record
		return false, true, h.record(id, "volume snapshot", map[string]any{"name": name}, nil)
	}
	shared, err = volume.Snapshot(ctx, t.DataVolume(), t.SnapshotsDir(), name, runs)
	switch {
	case errors.Is(err, volume.ErrNoReflink):
		err = &Error{Kind: ErrState, Err: err, Hint: fmt.Sprintf("stop it first, then a full copy is made: mvm tenant stop %s; or copy files out of the guest: mvm tenant cp %[1]s:/data .", id)}
	case errors.Is(err, fs.ErrExist):
		err = &Error{Kind: ErrState, Msg: fmt.Sprintf("there is a snapshot %s of another state already", name), Hint: fmt.Sprintf("choose another name, or remove it: mvm tenant volume rm %s %s", id, name)}
	}
	return shared, false, h.record(id, "volume snapshot", map[string]any{"name": name}, err)
}

// HasSnapshot says whether a tenant keeps a snapshot of that name.
func (h *Host) HasSnapshot(id, name string) (bool, error) {
	if err := h.MustExist(id); err != nil {
		return false, err
	}
	if err := checkSnapshotName(name); err != nil {
		return false, err
	}
	kept, err := volume.Snapshots(h.Store.Tenant(id).SnapshotsDir())
	return slices.ContainsFunc(kept, func(s volume.SnapshotInfo) bool { return s.Name == name }), err
}

func checkSnapshotName(name string) error {
	if volume.IsSnapshotName(name) {
		return nil
	}
	return &tenant.InputError{Msg: fmt.Sprintf("%q is no name of a snapshot", name), Hint: "use 1 to 63 lower-case letters, digits and inner dots, dashes or underscores"}
}

// RemoveSnapshot removes a snapshot, if it is there.
func (h *Host) RemoveSnapshot(ctx context.Context, id, name string) error {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := h.MustExist(id); err != nil {
		return err
	}
	err = volume.RemoveSnapshot(h.Store.Tenant(id).SnapshotsDir(), name)
	return h.record(id, "volume rm", map[string]any{"name": name}, err)
}

// RollbackVolume puts a snapshot in the volume's place. The snapshot stays.
func (h *Host) RollbackVolume(ctx context.Context, id, name string) (shared bool, err error) {
	err = h.withVolume(ctx, id, "volume rollback", map[string]any{"name": name}, func(t store.Tenant, _ tenant.State) error {
		there, err := h.HasSnapshot(id, name)
		if err == nil && !there {
			err = &tenant.InputError{Msg: fmt.Sprintf("tenant %s has no snapshot %s", id, name), Hint: fmt.Sprintf("mvm tenant volume show %s lists them", id)}
		}
		if err != nil {
			return err
		}
		shared, err = volume.Rollback(ctx, t.DataVolume(), t.SnapshotsDir(), name)
		return err
	})
	return shared, err
}

// withVolume does something with the volume of a tenant that does not run, and
// records it.
func (h *Host) withVolume(ctx context.Context, id, act string, detail map[string]any, do func(store.Tenant, tenant.State) error) error {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	state, err := h.atRest(ctx, id)
	if err != nil {
		return err
	}
	return h.record(id, act, detail, do(h.Store.Tenant(id), state))
}
