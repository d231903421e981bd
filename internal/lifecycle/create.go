package lifecycle

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/source"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// CreateOptions is what create needs to know beside the spec.
type CreateOptions struct {
	Dir          string // the working directory, to which a relative flake reference refers
	AdoptVolumes bool   // take the data volume that an earlier destroy kept
}

// Created is what create did.
type Created struct {
	State    tenant.State
	Already  bool     // it was there, with this very spec
	Retained []string // kept data volumes of earlier tenants of this id
	Adopted  string   // the one that was taken
}

// Create makes the tenant: its keys, its place in the network and its data
// volume. The spec is written last; without it there is no tenant, and the
// next create or destroy of this id takes over what is there.
func (h *Host) Create(ctx context.Context, spec tenant.Spec, o CreateOptions) (Created, error) {
	if err := spec.Validate(); err != nil {
		return Created{}, err
	}
	ref, err := absFlake(spec.FlakeRef, o.Dir)
	if err != nil {
		return Created{}, err
	}
	spec.FlakeRef = ref
	if spec.Volumes, err = h.absFolders(nil, spec.Volumes, o.Dir); err != nil {
		return Created{}, err
	}
	lock, err := h.Store.LockTenant(ctx, spec.TenantID, h.Wait)
	if err != nil {
		return Created{}, err
	}
	defer lock.Unlock()
	if h.Store.Exists(spec.TenantID) {
		return h.createdBefore(spec)
	}
	done, err := h.create(ctx, spec, o)
	return done, h.recordFailure(spec.TenantID, "create", map[string]any{"spec": spec}, err)
}

// absFlake makes a local reference independent of the working directory and
// checks that there is a flake.
func absFlake(ref, dir string) (string, error) {
	abs, err := source.Abs(ref, dir)
	if err != nil || !filepath.IsAbs(abs) {
		return abs, err
	}
	if source.HoldsFlake(abs) {
		return abs, nil
	}
	return "", &tenant.InputError{
		Msg:  fmt.Sprintf("%s holds neither flake.nix nor nix/flake.nix", abs),
		Hint: "name a folder that holds one, or a reference such as github:owner/repo",
	}
}

// createdBefore makes the second create of the same spec succeed and that of
// another one fail with the differences.
func (h *Host) createdBefore(spec tenant.Spec) (Created, error) {
	have, err := h.Store.LoadSpec(spec.TenantID)
	if err != nil {
		return Created{}, err
	}
	if diff := SpecDiff(have, spec); len(diff) > 0 {
		return Created{}, &Error{
			Kind: ErrState,
			Msg:  fmt.Sprintf("tenant %s exists with other values: %s", spec.TenantID, strings.Join(diff, ", ")),
			Hint: fmt.Sprintf("change it with mvm tenant set %s, or destroy it first", spec.TenantID),
		}
	}
	state, err := h.Store.LoadState(spec.TenantID)
	return Created{State: state, Already: true}, err
}

func (h *Host) create(ctx context.Context, spec tenant.Spec, o CreateOptions) (Created, error) {
	id, t := spec.TenantID, h.Store.Tenant(spec.TenantID)
	retained, err := h.Retained(id)
	if err != nil {
		return Created{}, err
	}
	if o.AdoptVolumes {
		if err := h.checkAdoption(t, retained, spec); err != nil {
			return Created{}, err
		}
	}
	done := Created{Retained: retained}
	err = sequence(ctx, "create", []step{
		{"former", func(context.Context) error { return os.RemoveAll(h.Store.GoneDir(id)) }},
		{"folders", func(context.Context) error { return makeFolders(t) }},
		{"keys", func(context.Context) error { return ssh.Ensure(t.SSHDir(), id) }},
		{"lease", func(ctx context.Context) (err error) { done.State, err = h.lease(ctx, spec); return err }},
		{"adopt", func(ctx context.Context) (err error) {
			done.Adopted, done.Retained, err = h.settleVolumes(t, retained, o.AdoptVolumes, done.State.UID)
			return err
		}},
		{"volume", func(ctx context.Context) error {
			if _, err := volume.CreateData(ctx, t.DataVolume(), spec.DataMiB, done.State.UID, done.State.UID); err != nil || done.Adopted == "" {
				return err
			}
			return volume.Grow(ctx, t.DataVolume(), spec.DataMiB)
		}},
		{"record", func(context.Context) error { return h.record(id, "create", map[string]any{"spec": spec}, nil) }},
		{"spec", func(context.Context) error { return h.Store.SaveSpec(spec) }},
	})
	return done, err
}

func makeFolders(t store.Tenant) error {
	for _, dir := range []string{t.Dir, t.VolumesDir(), t.ArtifactsDir(), t.RuntimeDir(), t.LogsDir(), t.MetricsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cannot make the tenant's folder: %w", err)
		}
	}
	if err := atomicfile.SyncDir(filepath.Dir(t.Dir)); err != nil { // what is in it syncs only itself
		return fmt.Errorf("cannot make the tenant's folder: %w", err)
	}
	return nil
}

// settleVolumes decides what the new tenant's volumes are, whatever a create
// that was killed left there: nothing yet, or what an earlier tenant of this
// id left and the caller adopts.
func (h *Host) settleVolumes(t store.Tenant, retained []string, adopt bool, uid int) (name string, rest []string, err error) {
	switch {
	case adopt && adopted(t): // by a create that was killed
		return "its former one", retained, own(t.VolumesDir(), uid)
	case adopt:
		whole, err := h.withData(retained)
		if err != nil {
			return "", retained, err
		}
		name = whole[len(whole)-1]
		rest = slices.DeleteFunc(slices.Clone(retained), func(n string) bool { return n == name })
		return name, rest, h.adopt(name, t, uid)
	case adopted(t): // by a create that was killed; this one starts fresh
		kept, err := h.retain(t.ID)
		if err != nil {
			return "", retained, err
		}
		return "", append(retained, filepath.Base(kept)), os.MkdirAll(t.VolumesDir(), 0o700)
	}
	return "", retained, nil
}

// checkAdoption refuses to adopt what is not there, or does not fit, before
// anything is done.
func (h *Host) checkAdoption(t store.Tenant, retained []string, spec tenant.Spec) error {
	path := t.DataVolume()
	if !adopted(t) {
		var err error
		if retained, err = h.withData(retained); err != nil {
			return err
		}
		if len(retained) == 0 {
			return &tenant.InputError{Msg: fmt.Sprintf("no data volume of a tenant %s is retained", t.ID), Hint: "leave out --adopt-volumes"}
		}
		path = filepath.Join(h.Store.RetainedDir(), retained[len(retained)-1], filepath.Base(path))
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot look at the retained data volume: %w", err)
	}
	if mib := sizeMiB(info); mib > spec.DataMiB {
		return &tenant.InputError{Msg: fmt.Sprintf("the retained data volume has %d MiB and cannot shrink to %d", mib, spec.DataMiB), Hint: fmt.Sprintf("say --data-size %d", mib)}
	}
	return nil
}

// adoptedMark is in a folder of volumes that was, or is about to be, adopted.
// Volumes without it in a tenant that does not exist yet were never used.
const adoptedMark = ".adopted"

func adopted(t store.Tenant) bool { return exists(filepath.Join(t.VolumesDir(), adoptedMark)) }

// adopt makes a retained folder of volumes the tenant's own, in one step.
func (h *Host) adopt(name string, t store.Tenant, uid int) error {
	from := filepath.Join(h.Store.RetainedDir(), name)
	if err := atomicfile.Write(filepath.Join(from, adoptedMark), nil, 0o600); err != nil {
		return fmt.Errorf("cannot adopt the data volume: %w", err)
	}
	if err := own(from, uid); err != nil {
		return err
	}
	if err := os.RemoveAll(t.VolumesDir()); err != nil { // never used
		return fmt.Errorf("cannot adopt the data volume: %w", err)
	}
	if err := os.Rename(from, t.VolumesDir()); err != nil {
		return fmt.Errorf("cannot adopt the data volume: %w", err)
	}
	return atomicfile.SyncDir(h.Store.RetainedDir())
}

// own gives the volume and its snapshots to the VMM's user.
func own(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != adoptedMark {
			err = os.Lchown(path, uid, uid)
		}
		if err != nil {
			return fmt.Errorf("cannot adopt the data volume: %w", err)
		}
		return nil
	})
}

// SpecDiff names the fields in which two specs differ, as "vcpus 1, not 2".
func SpecDiff(have, want tenant.Spec) []string {
	var diff []string
	add := func(field string, a, b any) {
		if a != b {
			diff = append(diff, fmt.Sprintf("%s %v, not %v", field, a, b))
		}
	}
	add("flake_ref", have.FlakeRef, want.FlakeRef)
	add("profile", have.Profile, want.Profile)
	add("vcpus", have.VCPUs, want.VCPUs)
	add("mem_mib", have.MemMiB, want.MemMiB)
	add("data_mib", have.DataMiB, want.DataMiB)
	add("egress", have.Egress, want.Egress)
	add("restart", have.Restart, want.Restart)
	add("volumes", have.Volumes.String(), want.Volumes.String())
	wanted := want.Machine.Fields()
	for i, f := range have.Machine.Fields() {
		add(f.Name, f.Value, wanted[i].Value)
	}
	return diff
}
