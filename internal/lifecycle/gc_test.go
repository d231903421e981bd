package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/store"
)

// TestGCBesideBuilds collects garbage again and again while tenants get images:
// what becomes a tenant's is there afterwards, whenever it was made, and what
// is nobody's is not.
func TestGCBesideBuilds(t *testing.T) {
	h := newHost(t)
	image := func(name string) string {
		dir := filepath.Join(h.Store.ImagesDir(), store.SHA256([]byte(name)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Error(err)
		}
		for _, name := range []string{build.Kernel, build.Rootfs, build.BaseConfig} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o444); err != nil {
				t.Error(err)
			}
		}
		return dir
	}
	stray := image("nobody's")
	building := make(chan struct{})
	var builders sync.WaitGroup
	for i := range 4 {
		id := fmt.Sprintf("tenant-%d", i)
		addTenant(t, h, id)
		builders.Go(func() {
			for n := range 5 {
				lock, err := h.Store.LockBuild(t.Context(), id, h.BuildWait)
				if err != nil {
					t.Error(err)
					return
				}
				dir := image(fmt.Sprint(id, n))
				m := build.Manifest{Version: build.ManifestVersion, Tenant: id, Image: filepath.Base(dir), Source: build.Source{Lock: []byte("{}")}}
				for _, name := range []string{build.Kernel, build.Rootfs, build.BaseConfig} {
					m.Artifacts = append(m.Artifacts, build.Artifact{Name: name, SHA256: m.Image})
				}
				if err := h.link(t.Context(), id, m); err != nil {
					t.Error(err)
				}
				lock.Unlock()
			}
		})
	}
	go func() { builders.Wait(); close(building) }()
	for ended := false; !ended; {
		select {
		case <-building:
			ended = true // and once more, with nobody in the way
		default:
		}
		_, err := h.GC(t.Context(), false)
		var busy *store.BusyError
		if err != nil && (ended || !errors.As(err, &busy)) {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		kernel := filepath.Join(h.Store.Tenant(fmt.Sprintf("tenant-%d", i)).ArtifactsDir(), build.Kernel)
		if _, err := os.Stat(kernel); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(h.Store.ImagesDir())
	if err != nil || len(left) != 4 {
		t.Errorf("%d images are left, want those of 4 tenants: %v", len(left), err)
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("what is nobody's stayed: %v", err)
	}
}

// TestGCTakesNoFileForEachTenant: many tenants do not run it out of files.
func TestGCTakesNoFileForEachTenant(t *testing.T) {
	h := newHost(t)
	for i := range 50 {
		addTenant(t, h, fmt.Sprintf("tenant-%d", i))
	}
	if _, err := h.GC(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	locks, err := filepath.Glob(filepath.Join(h.Store.Root, "locks", "tenant-*.build"))
	if err != nil || len(locks) > 0 {
		t.Errorf("it locked %d tenants one by one, %v", len(locks), err)
	}
}
