package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/run"
)

// storeVolume is the Nix store of one life of a tenant, filled from one
// builder image. Its name in the engine says all three, so that a build finds
// its own again, and a later tenant of the same id never finds it.
type storeVolume struct{ tenant, instance, image string }

func (v storeVolume) name(scope string) string {
	return storePrefix(scope) + v.tenant + "-" + v.instance + "-" + shortID(v.image)
}

func storePrefix(scope string) string { return "mvm-nix-" + scopeLabel(scope) + "-" }

var storeName = regexp.MustCompile(`^(.+)-([0-9a-f]{16})-([0-9a-f]{1,12})$`)

// parseStore reads what name has written.
func parseStore(scope, name string) (storeVolume, bool) {
	rest, ok := strings.CutPrefix(name, storePrefix(scope))
	parts := storeName.FindStringSubmatch(rest)
	if !ok || parts == nil {
		return storeVolume{}, false
	}
	return storeVolume{tenant: parts[1], instance: parts[2], image: parts[3]}, true
}

func (b *builder) store() storeVolume {
	return storeVolume{tenant: b.req.Tenant, instance: b.req.Instance, image: b.image.ID}
}

func (b *builder) storeMount() mount {
	return mount{source: b.store().name(b.req.Scope), target: "/nix", volume: true}
}

// stores lists the volumes of this root.
func (e Engine) stores(ctx context.Context, scope string) ([]string, error) {
	out, err := e.output(ctx, volumeListArgs(scope)...)
	if err != nil {
		return nil, fmt.Errorf("cannot list Nix stores: %w", err)
	}
	return strings.Fields(out), nil
}

// makeRoom removes what killed builds and earlier tenants of the same id left,
// and makes a store where there is none or a fresh one is asked for.
func (b *builder) makeRoom(ctx context.Context) error {
	var swept, stores []string
	var both errgroup.Group
	both.Go(func() (err error) {
		swept, err = sweepContainers(ctx, b.engine, b.req.Scope, b.req.TryLock, b.req.Tenant)
		return err
	})
	both.Go(func() (err error) {
		stores, err = b.engine.stores(ctx, b.req.Scope)
		return err
	})
	if err := both.Wait(); err != nil {
		return err
	}
	if len(swept) > 0 {
		b.event(PhaseContainer, Step, "removed containers that a killed mvm had left: "+strings.Join(swept, ", "))
	}
	for _, name := range stores {
		v, ok := parseStore(b.req.Scope, name)
		if !ok || v.tenant != b.req.Tenant || v.instance == b.req.Instance {
			continue
		}
		b.event(PhaseContainer, Step, "removing the store of an earlier tenant "+b.req.Tenant)
		if err := b.engine.removeVolume(ctx, name); err != nil {
			return err
		}
	}
	// Whatever the list is worth, builder.sh looks for itself, too.
	if b.req.FreshStore || !slices.Contains(stores, b.store().name(b.req.Scope)) {
		return b.newStore(ctx, !b.image.ready)
	}
	return nil
}

// newStore makes the tenant's store afresh: a volume that the engine fills from
// the image when it is first used. One that was left half made is thrown away.
// Unless the image has a store that belongs to the user that builds, a container
// of its own gives it to them, so that the build's never needs a capability.
func (b *builder) newStore(ctx context.Context, prepare bool) error {
	b.event(PhaseContainer, Step, "preparing the store of "+b.req.Tenant)
	name := b.store().name(b.req.Scope)
	if err := b.engine.removeVolume(ctx, name); err != nil {
		return err
	}
	crash.Point("build/store-removed")
	if _, err := b.engine.output(ctx, volumeCreateArgs(name, b.labels())...); err != nil {
		return fmt.Errorf("cannot prepare store: %w", err)
	}
	crash.Point("build/store-created")
	if !prepare {
		return nil
	}
	if err := (engineRun{b.engine, b.preparation(), b.log}).run(ctx); err != nil {
		return &Error{Kind: ErrHost, Msg: "cannot prepare the store of " + b.req.Tenant, Err: withoutArgv(err), Log: b.log.lastWords(),
			Hint: "the builder image must hold nix, sh and coreutils; see `mvm builder show`"}
	}
	return nil
}

// preparation is the container that prepares a store. It runs nothing but the
// builder image's own programs.
func (b *builder) preparation() container {
	nofile, nproc := ulimits(b.engine)
	return container{
		name:   containerName(b.req.Scope, b.req.Tenant),
		labels: b.labels(),
		image:  b.engine.imageName(b.image),
		mounts: []mount{b.storeMount()},
		env:    [][2]string{{"PATH", searchPath}},
		limits: b.req.Limits, nofile: nofile, nproc: nproc,
		offline: true,
		caps:    []string{"CHOWN", "DAC_OVERRIDE"},
		argv:    []string{"sh", "-c", prepareScript, "mvm-prepare", fmt.Sprint(UID)},
	}
}

// volumeGrace is how long a volume may stay in use by a container that is
// being removed.
const volumeGrace = 10 * time.Second

// removeVolume removes a volume; an absent one is fine.
func (e Engine) removeVolume(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, volumeGrace)
	defer cancel()
	for {
		_, err := e.output(ctx, volumeRemoveArgs(name)...)
		var failed *run.Error
		switch {
		case err == nil:
			return nil
		case errors.As(err, &failed) && saysGone(failed.Stderr):
			return nil
		case !errors.As(err, &failed) || !strings.Contains(failed.Stderr, "in use"):
			return fmt.Errorf("cannot remove Nix store: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot remove Nix store: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// saysGone tells of engines whose --force does not forgive.
func saysGone(stderr string) bool {
	s := strings.ToLower(stderr)
	return strings.Contains(s, "no such volume") || strings.Contains(s, "no volume with name") || strings.Contains(s, "not found")
}

// RemoveStores removes what building left of a tenant in the engine, its
// container and its Nix stores of this life and of earlier ones. The caller
// holds the lock of the tenant's builds.
func RemoveStores(ctx context.Context, engine Engine, scope, tenant string) error {
	if err := removeContainer(ctx, engine, containerName(scope, tenant)); err != nil {
		return err
	}
	crash.Point("build/container-removed")
	stores, err := engine.stores(ctx, scope)
	if err != nil {
		return err
	}
	for _, name := range stores {
		if v, ok := parseStore(scope, name); ok && v.tenant == tenant {
			if err := engine.removeVolume(ctx, name); err != nil {
				return err
			}
			crash.Point("build/store-removed")
		}
	}
	return nil
}

// A tenant's build folder outlives its builds: it says in which engines they
// may have left a store.
const engineMark = "engine-"

// outFolder makes the empty folder that the container writes to. Its parent is
// closed to everybody else; its owner is the container's user.
func (b *builder) outFolder() (string, error) {
	parent := filepath.Join(b.req.BuildDir, b.req.Tenant)
	out := filepath.Join(parent, "out")
	if err := os.RemoveAll(out); err != nil {
		return "", fmt.Errorf("cannot clear build folder: %w", err)
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", fmt.Errorf("cannot make build folder: %w", err)
	}
	mark, err := os.OpenFile(filepath.Join(parent, engineMark+b.engine.Name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("cannot make build folder: %w", err)
	}
	if err := errors.Join(mark.Close(), atomicfile.SyncDir(parent), atomicfile.SyncDir(b.req.BuildDir)); err != nil {
		return "", fmt.Errorf("cannot make build folder: %w", err)
	}
	if err := os.Mkdir(out, 0o700); err != nil {
		return "", fmt.Errorf("cannot make build folder: %w", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(out, UID, UID); err != nil {
			return "", fmt.Errorf("cannot make build folder: %w", err)
		}
	}
	return out, nil
}

// EnginesUsed names the engines in which builds of the tenant may have left
// something. A tenant that was never built has none.
func EnginesUsed(buildDir, tenant string) ([]string, error) {
	list, err := os.ReadDir(filepath.Join(buildDir, tenant))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read build folder: %w", err)
	}
	var names []string
	for _, f := range list {
		if name, ok := strings.CutPrefix(f.Name(), engineMark); ok && isEngine(name) {
			names = append(names, name)
		}
	}
	return names, nil
}
