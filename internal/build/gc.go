package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// GCRequest says what is still in use. Whatever else the folders and the
// engine hold of this root goes.
type GCRequest struct {
	SrcDir, BuildDir, ImagesDir string
	Scope                       string

	Images    []string // image hashes that tenants are linked to
	Snapshots []string // snapshot hashes that tenants' manifests name
	Tenants   []string // ids: their build folders and stores stay
	// Stores maps a tenant to the id of the builder image that filled its
	// current store; older stores go. A tenant without one keeps all.
	Stores map[string]string

	DryRun bool // say what would go, remove nothing
}

// GCItem is one thing that was, or would be, removed.
type GCItem struct {
	Kind  string `json:"kind"` // image, snapshot, build, volume or leftover
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"` // freed; -1 where that is unknown
}

// GC removes images, snapshots, build folders and Nix stores that nothing
// uses. What a running build holds stays, too. engine may be nil: volumes are
// left alone then.
func GC(ctx context.Context, engine *Engine, req GCRequest) ([]GCItem, error) {
	g := &collector{req: req}
	err := errors.Join(
		g.folders(req.ImagesDir, "image", set(req.Images)),
		g.folders(req.SrcDir, "snapshot", set(req.Snapshots)),
		g.builds(),
	)
	if engine != nil {
		err = errors.Join(err, g.volumes(ctx, *engine))
	}
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
		if strings.HasPrefix(d.Name(), tempPrefix) {
			k = "leftover"
		}
		if err := g.remove(k, filepath.Join(dir, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// remove moves a folder out of the way while it holds its lock, so that
// nobody ever sees half of it.
func (g *collector) remove(kind, path string) error {
	lock, err := holdDir(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	size, err := diskUsage(path)
	if err != nil {
		return err
	}
	if !g.req.DryRun {
		if kind != "leftover" {
			gone := filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
			if err := os.Rename(path, gone); err != nil {
				return err
			}
			path = gone
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	g.items = append(g.items, GCItem{Kind: kind, Name: strings.TrimPrefix(filepath.Base(path), tempPrefix), Bytes: size})
	return nil
}

// builds removes the build folders of tenants that are gone. A tenant's lock
// file stays: locks are never unlinked.
func (g *collector) builds() error {
	list, err := os.ReadDir(g.req.BuildDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	keep := set(g.req.Tenants)
	for _, d := range list {
		if keep[d.Name()] || !d.IsDir() {
			continue
		}
		lock, err := tryBuildLock(g.req.BuildDir, d.Name())
		if err != nil {
			return err
		}
		if lock == nil {
			continue
		}
		err = g.remove("build", filepath.Join(g.req.BuildDir, d.Name()))
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// volumes removes the stores of tenants that are gone or that use another
// builder image now.
func (g *collector) volumes(ctx context.Context, engine Engine) error {
	out, err := engine.output(ctx, volumeListArgs(g.req.Scope)...)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(out) {
		if g.volumeInUse(name) {
			continue
		}
		item := GCItem{Kind: "volume", Name: name, Bytes: engine.volumeSize(ctx, name)}
		if !g.req.DryRun {
			if _, err := engine.output(ctx, volumeRemoveArgs(name)...); err != nil {
				continue // a container uses it; the next collection finds it again
			}
		}
		g.items = append(g.items, item)
	}
	return nil
}

// volumeSize looks where the engine says that the volume is; -1 is unknown,
// as with an engine on another machine.
func (e Engine) volumeSize(ctx context.Context, name string) int64 {
	path, err := e.output(ctx, volumePathArgs(name)...)
	if err != nil || !filepath.IsAbs(path) {
		return -1
	}
	if _, err := os.Stat(path); err != nil {
		return -1
	}
	size, err := diskUsage(path)
	if err != nil {
		return -1
	}
	return size
}

func (g *collector) volumeInUse(name string) bool {
	for _, t := range g.req.Tenants {
		prefix := volumeName(g.req.Scope, t, "")
		id, ok := strings.CutPrefix(name, prefix)
		if !ok || strings.Contains(id, "-") {
			continue // another tenant, whose id begins like this one's
		}
		current, known := g.req.Stores[t]
		return !known || id == shortID(current)
	}
	return false
}
