package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/build"
)

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
