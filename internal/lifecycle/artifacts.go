package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/source"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// Verify reads every byte of the tenant's artifacts and compares it with what
// was recorded when they were built.
func (h *Host) Verify(ctx context.Context, id string) (build.Manifest, error) {
	if err := h.MustExist(id); err != nil {
		return build.Manifest{}, err
	}
	state, err := h.Store.LoadState(id)
	if err != nil {
		return build.Manifest{}, err
	}
	if !state.Artifacts.Built() {
		return build.Manifest{}, &Error{Kind: ErrState, Msg: "it is not built", Hint: h.Command("build", id)}
	}
	path := h.Store.Tenant(id).Manifest()
	data, err := os.ReadFile(path)
	if err != nil {
		return build.Manifest{}, fmt.Errorf("cannot read the manifest: %w", err)
	}
	if !state.Artifacts.Recorded(store.SHA256(data)) {
		return build.Manifest{}, &build.Error{Kind: build.ErrChanged, Msg: path + " is not what the build wrote", Hint: h.Command("build", id)}
	}
	m, err := build.DecodeManifest(data)
	if err != nil {
		return build.Manifest{}, &store.DamagedError{Path: path, Err: err, Remedy: h.Command("build", id)}
	}
	verified := make(chan error, 1)
	go func() { verified <- build.Verify(m, h.Store.ImagesDir(), build.VerifyFull) }()
	select {
	case err := <-verified:
		return m, err
	case <-ctx.Done(): // the reading ends with the program
		return m, fmt.Errorf("cannot read all of it: %w", ctx.Err())
	}
}

// GC removes the images, source snapshots, build folders and Nix stores that
// no tenant uses. It keeps builds from starting while it looks, and gives up
// where one is under way: what that will use is not known yet.
func (h *Host) GC(ctx context.Context, dryRun bool) ([]build.GCItem, error) {
	lock, err := h.Store.LockBuilds(ctx, h.Wait)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	req, err := h.inUse()
	if err != nil {
		return nil, err
	}
	req.DryRun = dryRun
	engines, err := h.enginesInUse(ctx)
	if err != nil {
		return nil, err
	}
	items, err := build.GC(ctx, engines, req)
	if len(items) == 0 || dryRun {
		return items, err
	}
	return items, h.record("", "gc", map[string]any{"removed": items}, err)
}

// inUse collects what the tenants' manifests name. One that cannot be read
// stops the collection: what it names must stay.
func (h *Host) inUse() (build.GCRequest, error) {
	req := build.GCRequest{
		SrcDir: h.Store.SnapshotsDir(), BuildDir: h.Store.BuildsDir(), ImagesDir: h.Store.ImagesDir(),
		Scope: h.Store.Scope, Tenants: map[string]build.StoreUse{},
	}
	ids, err := h.Store.IDs()
	if err != nil {
		return req, err
	}
	type use struct {
		build.StoreUse
		image, snapshot string
		err             error
	}
	uses := make([]use, len(ids))
	parallel(len(ids), func(i int) {
		u := &uses[i]
		var state tenant.State
		if state, u.err = h.Store.LoadState(ids[i]); u.err != nil {
			return
		}
		u.Instance = state.Instance
		m, err := h.Manifest(ids[i])
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if u.err = err; err == nil {
			u.ImageID, u.image, u.snapshot = m.Builder.ImageID, m.Image, m.Source.Snapshot
		}
	})
	for i, u := range uses {
		if u.err != nil {
			return req, u.err
		}
		req.Tenants[ids[i]] = u.StoreUse
		if u.image != "" {
			req.Images = append(req.Images, u.image)
		}
		if u.snapshot != "" {
			req.Snapshots = append(req.Snapshots, u.snapshot)
		}
	}
	return req, nil
}

// Sync copies a local flake to where builds see it, unless this very tree is
// there, and so tells what a build would build.
func (h *Host) Sync(ctx context.Context, ref, dir string) (source.Snapshot, error) {
	abs, err := absFlake(ref, dir)
	if err != nil {
		return source.Snapshot{}, err
	}
	return source.Take(ctx, abs, h.Store.SnapshotsDir())
}
