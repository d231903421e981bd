package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/store"
)

// TestEveryManifestIsOnRecord links manifests of one image: each is on record
// before it can be booted, once, also one that only has another source.
func TestEveryManifestIsOnRecord(t *testing.T) {
	h := newHost(t)
	addTenant(t, h, "acme")
	m := build.Manifest{Version: build.ManifestVersion, Tenant: "acme", Image: strings.Repeat("0123", 16), Source: build.Source{NARHash: "sha256-one", Lock: []byte("{}")}}
	other := m
	other.Source.NARHash = "sha256-two"
	// Twice the same is one build; going back to the first is another act.
	for i, c := range []struct {
		link    build.Manifest
		records int
	}{{m, 1}, {m, 1}, {other, 2}, {other, 2}, {m, 3}} {
		if err := h.link(t.Context(), "acme", c.link); err != nil {
			t.Fatal(err)
		}
		entries, err := h.Audit("acme")
		if err != nil {
			t.Fatal(err)
		}
		state, err := h.Store.LoadState("acme")
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(h.Store.Tenant("acme").Manifest())
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != c.records {
			t.Fatalf("link %d: %d records, want %d", i, len(entries), c.records)
		}
		last := entries[len(entries)-1]
		source, _ := last.Detail["source"].(map[string]any)
		sha := store.SHA256(data)
		if last.Act != "build" || source["nar_hash"] != c.link.Source.NARHash || last.Detail["manifest_sha256"] != sha || state.Artifacts.ManifestSHA256 != sha {
			t.Errorf("link %d is on record as %+v, the manifest is %s", i, last, sha)
		}
	}
}

// TestHundredTenantsWithOneImage makes one image a hundred tenants': beside it
// they take links and records.
func TestHundredTenantsWithOneImage(t *testing.T) {
	h := newHost(t)
	hash := strings.Repeat("0123", 16)
	m := build.Manifest{Version: build.ManifestVersion, Image: hash, Source: build.Source{Lock: []byte("{}")}}
	image := filepath.Join(h.Store.ImagesDir(), hash)
	if err := os.MkdirAll(image, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{build.Kernel, build.Rootfs, build.BaseConfig} {
		if err := os.WriteFile(filepath.Join(image, name), make([]byte, 1<<20), 0o444); err != nil {
			t.Fatal(err)
		}
		m.Artifacts = append(m.Artifacts, build.Artifact{Name: name, SHA256: hash, Size: 1 << 20})
	}
	rootfs, err := os.Stat(filepath.Join(image, build.Rootfs))
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for i := range 100 {
		id := fmt.Sprintf("tenant-%d", i)
		addTenant(t, h, id)
		m.Tenant = id
		if err := h.link(t.Context(), id, m); err != nil {
			t.Fatal(err)
		}
		dir := h.Store.Tenant(id).ArtifactsDir()
		if got, err := os.Stat(filepath.Join(dir, build.Rootfs)); err != nil || !os.SameFile(got, rootfs) {
			t.Errorf("%s has a rootfs of its own: %v", id, err)
		}
		total += allocated(t, dir)
	}
	t.Logf("a hundred tenants take %d bytes of disk beside the image of %d", total, 3<<20)
	if total > 100*64<<10 { // a block for each link and record
		t.Errorf("a hundred tenants take %d bytes of disk beside their image", total)
	}
}

// allocated is the disk that dir takes, without what its links lead to.
func allocated(t *testing.T, dir string) int64 {
	t.Helper()
	var blocks int64
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		blocks += st.Blocks
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return blocks * 512
}
