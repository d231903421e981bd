package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// BuildOptions is what build needs to know.
type BuildOptions struct {
	Engine      string // docker, nerdctl or podman; empty: as configured
	Offline     bool
	NoSandbox   bool
	Force       bool
	Check       bool
	RequireLock bool
	Progress    build.Progress
}

// Build builds the tenant's guest and links it. Builds of one tenant queue;
// the tenant itself stays usable, and keeps what it has if the build fails.
func (h *Host) Build(ctx context.Context, id string, o BuildOptions) (build.Manifest, build.Result, error) {
	if err := h.exists(id); err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	queue, err := h.Store.LockBuild(ctx, id, h.BuildWait)
	if err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	defer queue.Unlock()
	spec, err := h.Store.LoadSpec(id)
	if err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	req, err := h.buildRequest(spec, o)
	if err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	req.Commit = func(m build.Manifest) error { return h.link(ctx, id, m) }
	manifest, result, err := build.Build(ctx, req, o.Progress)
	if err == nil && result.UpToDate {
		return manifest, result, nil
	}
	return manifest, result, h.record(id, "build", buildDetail(spec, manifest), err)
}

func (h *Host) buildRequest(spec tenant.Spec, o BuildOptions) (build.Request, error) {
	t := h.Store.Tenant(spec.TenantID)
	engine := o.Engine
	if engine == "" {
		engine = h.Config.Build.Engine
	}
	previous, err := h.Manifest(spec.TenantID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return build.Request{}, err
	}
	image, err := h.BuilderImage()
	if err != nil {
		return build.Request{}, err
	}
	return build.Request{
		Tenant: spec.TenantID, FlakeRef: spec.FlakeRef, Profile: spec.Profile,
		Engine: engine, Image: image,
		SrcDir: h.Store.SnapshotsDir(), BuildDir: h.Store.BuildsDir(), ImagesDir: h.Store.ImagesDir(),
		CacheDir: h.Config.Build.Cache, Scope: h.Store.Scope,
		Limits: build.Limits{
			MemMiB: h.Config.Build.MemoryMiB, CPUs: float64(h.Config.Build.CPUs), Pids: h.Config.Build.Pids,
			Timeout: time.Duration(h.Config.Build.TimeoutMin) * time.Minute,
		},
		Offline: o.Offline || h.Config.Build.Offline, NoSandbox: o.NoSandbox, Force: o.Force, Check: o.Check, RequireLock: o.RequireLock,
		PreviousManifest: previous, LogPath: t.BuildLog(),
		CheckBaseConfig: func(data []byte) error { _, err := fcconfig.Parse(data); return err },
	}, nil
}

// Engine is the container engine that builds use.
func (h *Host) Engine(ctx context.Context, preferred string) (build.Engine, error) {
	if preferred == "" {
		preferred = h.Config.Build.Engine
	}
	return build.Detect(ctx, preferred)
}

// Manifest is what the tenant's current artifacts were made of; an error that
// wraps fs.ErrNotExist where nothing was built yet.
func (h *Host) Manifest(id string) (*build.Manifest, error) {
	data, err := os.ReadFile(h.Store.Tenant(id).Manifest())
	if err != nil {
		return nil, fmt.Errorf("cannot read the manifest: %w", err)
	}
	m, err := build.DecodeManifest(data)
	if err != nil {
		return nil, &store.DamagedError{Path: h.Store.Tenant(id).Manifest(), Err: err}
	}
	return &m, nil
}

// link makes the image the tenant's: links, lock and manifest first, the state
// last. Killed in between, the next build does it again.
func (h *Host) link(ctx context.Context, id string, m build.Manifest) error {
	lock, err := h.Store.LockTenant(ctx, id, h.BuildWait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	t := h.Store.Tenant(id)
	data, err := m.Encode()
	if err != nil {
		return err
	}
	paths := tenant.Artifacts{Image: m.Image, ManifestPath: t.Manifest(), ManifestSHA256: store.SHA256(data)}
	return sequence(ctx, "link", []step{
		{"artifacts", func(context.Context) error { return h.linkArtifacts(t, m, &paths) }},
		{"lock", func(context.Context) error { return atomicfile.Write(t.LockFile(), m.Source.LockFile(), 0o600) }},
		{"manifest", func(context.Context) error { return atomicfile.Write(t.Manifest(), data, 0o600) }},
		{"state", func(context.Context) error {
			return h.Store.UpdateState(id, func(s *tenant.State) error {
				s.Artifacts, s.FlakeLockHash, s.NixStorePaths, s.BuiltAt = paths, m.Source.LockHash, m.StorePaths(), m.EndedAt
				return nil
			})
		}},
	})
}

// linkArtifacts points the tenant's names at the image's files.
func (h *Host) linkArtifacts(t store.Tenant, m build.Manifest, paths *tenant.Artifacts) error {
	image := filepath.Join(h.Store.ImagesDir(), m.Image)
	for _, a := range m.Artifacts {
		to := filepath.Join(t.ArtifactsDir(), a.Name)
		if err := atomicfile.Symlink(filepath.Join(image, a.Name), to); err != nil {
			return err
		}
		switch a.Name {
		case build.Kernel:
			paths.KernelPath = to
		case build.Rootfs:
			paths.RootfsPath = to
		case build.Initrd:
			paths.InitrdPath = to
		case build.BaseConfig:
			paths.FCBaseConfig = to
		}
	}
	if paths.InitrdPath != "" {
		return nil
	}
	// An earlier build may have had one.
	if err := os.Remove(filepath.Join(t.ArtifactsDir(), build.Initrd)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot unlink the former initrd: %w", err)
	}
	return nil
}

func buildDetail(spec tenant.Spec, m build.Manifest) map[string]any {
	detail := map[string]any{"flake_ref": spec.FlakeRef, "profile": spec.Profile}
	if m.Image != "" {
		detail["image"], detail["source"], detail["outputs"], detail["artifacts"], detail["builder"] = m.Image, m.Source, m.Outputs, m.Artifacts, m.Builder
	}
	return detail
}

// removeBuildLeftovers takes away what building left for this tenant: its
// container, if mvm was killed, and its build folder. Its Nix store stays, as
// a cache for a tenant of the same id, until gc.
func (h *Host) removeBuildLeftovers(ctx context.Context, id string) error {
	dir := h.Store.BuildDir(id)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever built
	}
	engine, err := h.Engine(ctx, "")
	if err != nil {
		h.Say("  not looking for build containers: %v", err)
	} else if _, err := build.SweepContainers(ctx, engine, h.Store.Scope, h.Store.BuildsDir()); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove the build folder: %w", err)
	}
	return nil
}
