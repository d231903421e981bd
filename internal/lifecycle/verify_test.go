package lifecycle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// TestVerifyIsInterrupted however much there is still to read.
func TestVerifyIsInterrupted(t *testing.T) {
	h := newHost(t)
	rootfs := build.Artifact{Name: build.Rootfs, SHA256: store.SHA256([]byte("other")), Size: 1 << 40}
	m := build.Manifest{Version: build.ManifestVersion, Tenant: "acme", Artifacts: []build.Artifact{rootfs}}
	m.Image = store.SHA256([]byte(rootfs.SHA256 + "  " + rootfs.Name + "\n"))
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(h.Store.ImagesDir(), m.Image)
	if err := os.MkdirAll(image, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(image, rootfs.Name)
	for file, content := range map[string][]byte{path: nil, h.Store.Tenant("acme").Manifest(): data} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Store.UpdateState("acme", func(s *tenant.State) error {
		s.Artifacts.Image, s.Artifacts.ManifestSHA256 = m.Image, store.SHA256(data)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Verify(t.Context(), "acme"); !errors.Is(err, build.ErrChanged) {
		t.Fatalf("err = %v, want that the file is another", err)
	}
	if err := os.Truncate(path, rootfs.Size); err != nil { // takes no room, and hours to read
		t.Fatal(err)
	}
	defer os.Truncate(path, 0) // ends the reading
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Verify(ctx, "acme"); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
