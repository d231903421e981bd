package devvm

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

// hosts are the tenants' and the dev microVM's, each with a machine that is
// made, marked as built, and too large to run beside the other.
func hosts(t *testing.T) (main, dev *lifecycle.Host) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "config.toml"), []byte("tier = \"software\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	main, err := lifecycle.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := Open(main, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	for id, h := range map[string]*lifecycle.Host{"acme": main, ID: vm.host} {
		t.Cleanup(func() { os.RemoveAll(h.Store.RunDir) })
		spec := tenant.Spec{TenantID: id, FlakeRef: "/x", MemMiB: tenant.MaxMemMiB}
		spec.Defaults()
		if err := os.MkdirAll(h.Store.Tenant(id).Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		state := tenant.State{SchemaVersion: tenant.SchemaVersion, Spec: spec, Phase: tenant.Created, CreatedAt: time.Now()}
		state.Artifacts.Image = "x"
		if err := errors.Join(h.Store.CreateState(id, state), h.Store.SaveSpec(spec)); err != nil {
			t.Fatal(err)
		}
	}
	return main, vm.host
}

// What the one takes is counted when the other starts, in both directions.
func TestTheyShareTheHost(t *testing.T) {
	for _, starts := range []string{"acme", ID} {
		main, dev := hosts(t)
		h, other, otherID := main, dev, ID
		if starts == ID {
			h, other, otherID = dev, main, "acme"
		}
		_, err := h.Run(t.Context(), starts, lifecycle.RunOptions{})
		if err == nil || !strings.Contains(err.Error(), "0 of ") {
			t.Fatalf("%s alone: %v", starts, err)
		}
		err = errors.Join(other.Store.Activate(otherID), other.Store.UpdateState(otherID, func(s *tenant.State) error {
			s.Wanted = true
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Run(t.Context(), starts, lifecycle.RunOptions{})
		if !errors.Is(err, lifecycle.ErrHost) || strings.Contains(err.Error(), " 0 of ") {
			t.Errorf("%s beside %s: %v", starts, otherID, err)
		}
	}
}

// Settings of the one that cannot be read, such as a newer mvm's, do not keep
// the other from running: they are written anew when they are needed.
func TestAnotherVersionsSettings(t *testing.T) {
	main, dev := hosts(t)
	if err := os.WriteFile(dev.Store.ConfigFile(), []byte("newer = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := main.Run(t.Context(), "acme", lifecycle.RunOptions{}); !errors.Is(err, lifecycle.ErrHost) {
		t.Errorf("err = %v, want that the machine is too large", err)
	}
}

// gc frees what either has and does not use, and nothing that it uses.
func TestGC(t *testing.T) {
	main, dev := hosts(t)
	for id, h := range map[string]*lifecycle.Host{"acme": main, ID: dev} {
		m := build.Manifest{Version: build.ManifestVersion, Image: "used", Source: build.Source{Snapshot: "used"}}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(h.Store.Tenant(id).ArtifactsDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.Store.Tenant(id).Manifest(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{h.Store.ImagesDir(), h.Store.SnapshotsDir()} {
			for _, name := range []string{"used", id + "-unused"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	want := []string{"image acme-unused", "snapshot acme-unused", "image dev/dev-unused", "snapshot dev/dev-unused"}
	for _, dryRun := range []bool{true, false} {
		items, err := GC(t.Context(), main, dryRun)
		var got []string
		for _, i := range items {
			got = append(got, i.Kind+" "+i.Name)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("dry run %t: %q, %v", dryRun, got, err)
		}
	}
	for _, h := range []*lifecycle.Host{main, dev} {
		for _, dir := range []string{h.Store.ImagesDir(), h.Store.SnapshotsDir()} {
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 || left[0].Name() != "used" {
				t.Errorf("%s holds %v, %v", dir, left, err)
			}
		}
	}
	if items, err := GC(t.Context(), main, false); err != nil || len(items) != 0 {
		t.Errorf("again: %v, %v", items, err)
	}
	// A manifest that cannot be read names nothing: all of it stays.
	if err := os.WriteFile(dev.Store.Tenant(ID).Manifest(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if items, err := GC(t.Context(), main, false); err == nil || len(items) != 0 {
		t.Errorf("with a damaged manifest: %v, %v", items, err)
	}
}

// reconcile looks after it, and makes nothing where there is none.
func TestReconcile(t *testing.T) {
	main, dev := hosts(t)
	err := dev.Store.UpdateState(ID, func(s *tenant.State) error {
		s.Phase, s.BootID = tenant.Running, "of an earlier boot"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	acts, err := Reconcile(t.Context(), main, true)
	if err != nil || len(acts) == 0 || !strings.HasPrefix(acts[0].What, "dev microVM: sweep after its run") {
		t.Errorf("%v, %v", acts, err)
	}
	bare, err := lifecycle.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(bare.Store.RunDir) })
	acts, err = Reconcile(t.Context(), bare, false)
	if _, statErr := os.Stat(Dir(bare.Store.Root)); err != nil || len(acts) != 0 || !errors.Is(statErr, os.ErrNotExist) {
		t.Errorf("%v, %v, %v", acts, err, statErr)
	}
}
