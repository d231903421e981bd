package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/auser/mvm/internal/atomicfile"
)

// GCRequest says what is still in use. Whatever else the folders and the
// engines hold of this root goes. The caller keeps everybody from building, also
// tenants that are gone.
type GCRequest struct {
	SrcDir, BuildDir, ImagesDir string
	Scope                       string

	Images    []string // image hashes that tenants are linked to
	Snapshots []string // snapshot hashes that tenants' manifests name
	Tenants   map[string]StoreUse

	DryRun bool // say what would go, remove nothing
}

// StoreUse says which store of a tenant is in use. Its build folder stays, too.
type StoreUse struct {
	Instance string // this life of the tenant; stores of earlier ones go
	ImageID  string // the builder image that filled its store; "" keeps all of this life
}

// GCItem is one thing that was, or would be, removed.
type GCItem struct {
	Kind  string `json:"kind"` // image, snapshot, build, volume or leftover
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"` // freed; -1 where that is unknown
}

// GC removes images, snapshots, build folders and Nix stores that nothing
// uses. What a running build holds stays, too, and so does what is in other
// engines than those given.
func GC(ctx context.Context, engines []Engine, req GCRequest) ([]GCItem, error) {
	g := &collector{req: req}
	err := errors.Join(
		g.folders(req.ImagesDir, "image", set(req.Images)),
		g.folders(req.SrcDir, "snapshot", set(req.Snapshots)),
	)
	for _, engine := range engines {
		err = errors.Join(err, g.volumes(ctx, engine))
	}
	// Last, because they say where volumes are.
	err = errors.Join(err, g.builds(engines))
	if err != nil {
		err = fmt.Errorf("cannot collect garbage: %w", err)
	}
	return g.items, err
}

type collector struct {
	req   GCRequest
	items []GCItem
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

// folders removes every unused folder in dir that keep does not have.
func (g *collector) folders(dir, kind string, keep map[string]bool) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range list {
		if keep[d.Name()] || !d.IsDir() {
			continue
		}
		k := kind
		if _, left := atomicfile.Leftover(d.Name()); left {
			k = "leftover"
		}
		if err := g.remove(k, filepath.Join(dir, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (g *collector) remove(kind, path string) error {
	size, removed, err := atomicfile.RemoveDir(path, g.req.DryRun)
	if err != nil || !removed {
		return err
	}
	name, _ := atomicfile.Leftover(filepath.Base(path))
	g.items = append(g.items, GCItem{Kind: kind, Name: name, Bytes: size})
	return nil
}

// builds removes the build folders of tenants that are gone, unless they name
// an engine that could not be asked.
func (g *collector) builds(engines []Engine) error {
	list, err := os.ReadDir(g.req.BuildDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range list {
		if _, used := g.req.Tenants[d.Name()]; used || !d.IsDir() || !labelPattern.MatchString(d.Name()) {
			continue
		}
		marked, err := EnginesUsed(g.req.BuildDir, d.Name())
		if err != nil {
			return err
		}
		if slices.ContainsFunc(marked, func(name string) bool { return !has(engines, name) }) {
			continue
		}
		if err := g.remove("build", filepath.Join(g.req.BuildDir, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

func has(engines []Engine, name string) bool {
	return slices.ContainsFunc(engines, func(e Engine) bool { return e.Name == name })
}

// volumes removes the stores of tenants that are gone, of earlier lives, and
// of builder images that are no longer used.
func (g *collector) volumes(ctx context.Context, engine Engine) error {
	names, err := engine.stores(ctx, g.req.Scope)
	if err != nil {
		return err
	}
	for _, name := range names {
		if v, ok := parseStore(g.req.Scope, name); !ok || !g.inUse(v) {
			g.removeVolume(ctx, engine, name)
		}
	}
	return nil
}

func (g *collector) inUse(v storeVolume) bool {
	use, ok := g.req.Tenants[v.tenant]
	return ok && use.Instance == v.instance && (use.ImageID == "" || shortID(use.ImageID) == v.image)
}

// removeVolume leaves alone what a container uses: the next collection finds
// it again.
func (g *collector) removeVolume(ctx context.Context, engine Engine, name string) {
	item := GCItem{Kind: "volume", Name: name, Bytes: engine.volumeSize(ctx, name)}
	if !g.req.DryRun {
		if _, err := engine.output(ctx, volumeRemoveArgs(name)...); err != nil {
			return
		}
	}
	g.items = append(g.items, item)
}

// volumeSize is what removing the volume would free; -1 is unknown.
func (e Engine) volumeSize(ctx context.Context, name string) int64 {
	path := e.volumePath(ctx, name)
	if path == "" {
		return -1
	}
	size, err := atomicfile.DiskUsage(path)
	if err != nil {
		return -1
	}
	return size
}

// volumePath is where the engine says that the volume is; "" is unknown, as
// with an engine on another machine.
func (e Engine) volumePath(ctx context.Context, name string) string {
	path, err := e.output(ctx, volumePathArgs(name)...)
	if err != nil || !filepath.IsAbs(path) {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
