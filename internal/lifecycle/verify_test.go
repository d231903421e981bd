package lifecycle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
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

// TestOnlyARecordedManifestCounts: one that somebody changed is none to the next
// build, however plausible. That build would find everything up to date, and the
// change would be on record as what it had built.
func TestOnlyARecordedManifestCounts(t *testing.T) {
	h := newHost(t)
	m := build.Manifest{Version: build.ManifestVersion, Tenant: "acme", Image: strings.Repeat("0123", 16), Source: build.Source{NARHash: "sha256-one", Lock: []byte("{}")}}
	if err := h.link(t.Context(), "acme", m); err != nil {
		t.Fatal(err)
	}
	spec, err := h.Store.LoadSpec("acme")
	if err != nil {
		t.Fatal(err)
	}
	counts := func(want bool) {
		t.Helper()
		if req, err := h.buildRequest(t.Context(), spec, BuildOptions{}); err != nil || (req.PreviousManifest != nil) != want {
			t.Errorf("it counts: %t, %v, want %t", req.PreviousManifest != nil, err, want)
		}
	}
	counts(true)
	m.Source.NARHash = "sha256-forged"
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := h.Store.Tenant("acme").Manifest()
	for _, forged := range [][]byte{data, []byte("{")} {
		if err := os.WriteFile(path, forged, 0o600); err != nil {
			t.Fatal(err)
		}
		counts(false)
	}
	if err := h.announce("acme", store.SHA256(data)); err != nil { // a build was killed that had made it
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	counts(true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	counts(false)
}
