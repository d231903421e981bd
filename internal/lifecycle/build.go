package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	FreshStore  bool // begin with an empty Nix store
	Progress    build.Progress
}

// Build builds the tenant's guest and links it. Builds of one tenant queue;
// the tenant itself stays usable, and keeps what it has if the build fails.
func (h *Host) Build(ctx context.Context, id string, o BuildOptions) (build.Manifest, build.Result, error) {
	if err := h.MustExist(id); err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	lock, err := h.queue(ctx, id, o.Progress)
	if err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	defer lock.Unlock()
	spec, err := h.Store.LoadSpec(id)
	if err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	req, err := h.buildRequest(ctx, spec, o)
	if err != nil {
		return build.Manifest{}, build.Result{}, err
	}
	req.Commit = func(m build.Manifest) error { return h.link(ctx, id, m) }
	manifest, result, err := build.Build(ctx, req, o.Progress)
	return manifest, result, h.recordFailure(id, "build", map[string]any{"flake_ref": spec.FlakeRef, "profile": spec.Profile}, err)
}

// queue waits for the tenant's other builds, and says so.
func (h *Host) queue(ctx context.Context, id string, progress build.Progress) (*store.Lock, error) {
	lock, err := h.Store.LockBuild(ctx, id, 0)
	var busy *store.BusyError
	if !errors.As(err, &busy) {
		return lock, err
	}
	if progress != nil {
		progress(build.Event{Phase: build.PhaseSnapshot, Kind: build.Step, Text: "waiting: " + busy.Error()})
	}
	return h.Store.LockBuild(ctx, id, h.BuildWait)
}

// tryBuildLock is how building tells what others build from what killed
// builds left.
func (h *Host) tryBuildLock(ctx context.Context) build.TryLock {
	return func(id string) (func(), bool, error) {
		lock, err := h.Store.LockBuild(ctx, id, 0)
		var busy *store.BusyError
		if errors.As(err, &busy) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		return lock.Unlock, true, nil
	}
}

// instance tells this life of the tenant from others of the same id. One that
// was created before there were instances gets its own now.
func (h *Host) instance(id string) (string, error) {
	state, err := h.Store.LoadState(id)
	if err != nil || state.Instance != "" {
		return state.Instance, err
	}
	instance := tenant.NewInstance()
	return instance, h.Store.UpdateState(id, func(s *tenant.State) error {
		s.Instance = instance
		return nil
	})
}

func (h *Host) buildRequest(ctx context.Context, spec tenant.Spec, o BuildOptions) (build.Request, error) {
	previous, err := h.recordedManifest(spec.TenantID)
	if err != nil {
		return build.Request{}, err
	}
	instance, err := h.instance(spec.TenantID)
	if err != nil {
		return build.Request{}, err
	}
	req, err := h.requestFor(ctx, spec, instance, o)
	req.PreviousManifest = previous
	return req, err
}

// requestFor is a request for a store that is told from others by instance.
func (h *Host) requestFor(ctx context.Context, spec tenant.Spec, instance string, o BuildOptions) (build.Request, error) {
	image, err := h.BuilderImage()
	if err != nil {
		return build.Request{}, err
	}
	engine := o.Engine
	if engine == "" {
		engine = h.Config.Build.Engine
	}
	cache, keys, err := h.sharedCache()
	if err != nil {
		return build.Request{}, err
	}
	return build.Request{
		Tenant: spec.TenantID, Instance: instance, TryLock: h.tryBuildLock(ctx), FlakeRef: spec.FlakeRef, Profile: spec.Profile,
		Engine: engine, Image: image,
		SrcDir: h.Store.SnapshotsDir(), BuildDir: h.Store.BuildsDir(), ImagesDir: h.Store.ImagesDir(),
		CacheDir: h.Config.Build.Cache, Scope: h.Store.Scope,
		Limits: h.buildLimits(), Substitutes: cache, SubstitutesKeys: keys,
		Offline: o.Offline || h.Config.Build.Offline, NoSandbox: o.NoSandbox, Force: o.Force, Check: o.Check, RequireLock: o.RequireLock,
		FreshStore:      o.FreshStore || h.Config.Build.FreshStore,
		LogPath:         h.Store.Tenant(spec.TenantID).BuildLog(),
		CheckBaseConfig: func(data []byte) error { _, err := fcconfig.Parse(data); return err },
	}, nil
}

func (h *Host) buildLimits() build.Limits {
	c := h.Config.Build
	return build.Limits{MemMiB: c.MemoryMiB, CPUs: float64(c.CPUs), Pids: c.Pids, Timeout: time.Duration(c.TimeoutMin) * time.Minute}
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
		return nil, &store.DamagedError{Path: h.Store.Tenant(id).Manifest(), Err: err, Remedy: h.Command("build", id)}
	}
	return &m, nil
}

// recordedManifest is the manifest that a build wrote. One that is damaged, or that
// somebody changed, is none: the next build makes another, and vouches for it.
func (h *Host) recordedManifest(id string) (*build.Manifest, error) {
	data, err := os.ReadFile(h.Store.Tenant(id).Manifest())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the manifest: %w", err)
	}
	state, err := h.Store.LoadState(id)
	if err != nil || !state.Artifacts.Recorded(store.SHA256(data)) {
		return nil, err
	}
	m, err := build.DecodeManifest(data)
	if err != nil { // of a later version of mvm
		return nil, nil
	}
	return &m, nil
}

// link makes the image the tenant's. Killed in between, the tenant boots what
// its manifest says, the former image or the new one, and the next build does
// the rest.
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
		{"announce", func(context.Context) error { return h.announce(id, paths.ManifestSHA256) }},
		{"artifacts", func(context.Context) error { return h.linkArtifacts(t, m, &paths) }},
		{"lock", func(context.Context) error { return atomicfile.Write(t.LockFile(), m.Source.LockFile(), 0o600) }},
		{"record", func(context.Context) error { return h.recordBuild(id, paths.ManifestSHA256, m) }},
		{"manifest", func(context.Context) error { return atomicfile.Write(t.Manifest(), data, 0o600) }},
		{"state", func(context.Context) error {
			return h.Store.UpdateState(id, func(s *tenant.State) error {
				s.Artifacts, s.FlakeLockHash, s.NixStorePaths, s.BuiltAt = paths, m.Source.LockHash, m.StorePaths(), m.EndedAt
				return nil
			})
		}},
	})
}

// announce records which manifest comes next.
func (h *Host) announce(id, manifestSHA256 string) error {
	state, err := h.Store.LoadState(id)
	if err != nil || state.Artifacts.Recorded(manifestSHA256) {
		return err
	}
	return h.Store.UpdateState(id, func(s *tenant.State) error {
		s.Artifacts.NextManifestSHA256 = manifestSHA256
		return nil
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

// recordBuild records what becomes the tenant's, before anything can start from
// it, unless it is the tenant's already: what is up to date is linked all the
// same.
func (h *Host) recordBuild(id, manifestSHA256 string, m build.Manifest) error {
	state, err := h.Store.LoadState(id)
	if err != nil || state.Artifacts.ManifestSHA256 == manifestSHA256 {
		return err
	}
	return h.record(id, "build", map[string]any{
		"flake_ref": m.Source.Ref, "profile": m.Profile, "image": m.Image, "manifest_sha256": manifestSHA256, "source": m.Source,
		"outputs": m.Outputs, "artifacts": m.Artifacts, "builder": m.Builder,
	}, nil)
}

// removeBuilds takes away what building left for this tenant: its Nix store,
// the container, if mvm was killed, and the build folder. Where an engine does
// not answer the folder stays, and says so to gc and reconcile.
func (h *Host) removeBuilds(ctx context.Context, id string) error {
	names, err := build.EnginesUsed(h.Store.BuildsDir(), id)
	if err != nil {
		return err
	}
	for _, name := range names {
		engine, err := build.Detect(ctx, name)
		if errors.Is(err, build.ErrHost) {
			h.Say("  its Nix store stays until the next gc or reconcile: %v", err)
			return nil
		}
		if err != nil {
			return err
		}
		if err := build.RemoveStores(ctx, engine, h.Store.Scope, id); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(h.Store.BuildDir(id)); err != nil {
		return fmt.Errorf("cannot remove the build folder: %w", err)
	}
	return nil
}

// enginesInUse are the engine that builds use now and those that builds have
// used, as far as they answer.
func (h *Host) enginesInUse(ctx context.Context) ([]build.Engine, error) {
	dirs, err := os.ReadDir(h.Store.BuildsDir())
	if err != nil {
		return nil, fmt.Errorf("cannot list build folders: %w", err)
	}
	names := []string{h.Config.Build.Engine}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		used, err := build.EnginesUsed(h.Store.BuildsDir(), d.Name())
		if err != nil {
			return nil, err
		}
		names = append(names, used...)
	}
	var engines []build.Engine
	asked := map[string]bool{}
	for _, name := range names {
		if asked[name] {
			continue
		}
		asked[name] = true
		engine, err := build.Detect(ctx, name)
		if errors.Is(err, build.ErrHost) {
			h.Say("  Nix stores are left alone: %v", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(engines, func(e build.Engine) bool { return e.Name == engine.Name }) {
			engines = append(engines, engine)
		}
	}
	return engines, nil
}
