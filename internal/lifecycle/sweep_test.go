package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// TestCopiesOfFoldersGo: the copies of the host's folders are a run's alone. Where
// the host went down under it, stop takes them away, and where nobody did before
// the tenant was taken for stopped, reconcile does.
func TestCopiesOfFoldersGo(t *testing.T) {
	h := newHost(t)
	copies := h.Store.Tenant("acme").FoldersDir()
	for name, c := range map[string]struct {
		phase tenant.Phase
		do    func() error
	}{
		"stop":      {tenant.Running, func() error { _, err := h.Stop(t.Context(), "acme", StopOptions{}); return err }},
		"reconcile": {tenant.Stopped, func() error { _, err := h.Reconcile(t.Context(), false); return err }},
	} {
		if err := os.MkdirAll(copies, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copies, "src.ext4"), []byte("somebody's work"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.Store.UpdateState("acme", func(s *tenant.State) error {
			s.Phase, s.BootID = c.phase, "another boot"
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if exists(copies) {
			t.Errorf("%s leaves the copies of folders", name)
		}
	}
}

// TestOnlyWhatWasUsedIsKept: a create that was killed has made a volume that
// nobody has ever written to. Kept, it would be the newest, and what
// --adopt-volumes takes instead of the former tenant's.
func TestOnlyWhatWasUsedIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *Host)
		kept   int
	}{
		"never used": {func(*testing.T, *Host) {}, 0},
		"adopted": {func(t *testing.T, h *Host) {
			if err := os.WriteFile(filepath.Join(h.Store.Tenant("beta").VolumesDir(), adoptedMark), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"used, and its spec is lost": {func(t *testing.T, h *Host) {
			if err := h.Store.UpdateState("beta", func(s *tenant.State) error { s.Phase = tenant.Stopped; return nil }); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"imported, and its spec is lost": {func(t *testing.T, h *Host) {
			image, err := os.OpenFile(h.Store.Tenant("beta").DataVolume(), os.O_WRONLY, 0)
			if err == nil {
				_, err = image.WriteAt([]byte{1}, 1024+0x2c) // the time of a mount
				err = errors.Join(err, image.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 1},
		"nobody knows": {func(t *testing.T, h *Host) {
			if err := os.WriteFile(h.Store.Tenant("beta").StateFile(), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			beta := h.Store.Tenant("beta")
			if err := makeFolders(beta); err != nil {
				t.Fatal(err)
			}
			spec := tenant.Spec{TenantID: "beta"}
			spec.Defaults()
			if _, err := h.lease(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			if _, err := volume.CreateData(t.Context(), beta.DataVolume(), 16, 1, 1); err != nil {
				t.Fatal(err)
			}
			c.change(t, h)
			if acts, err := h.Reconcile(t.Context(), false); err != nil {
				t.Fatal(acts, err)
			}
			if names, err := h.Retained("beta"); err != nil || len(names) != c.kept {
				t.Errorf("kept are %v, %v, want %d", names, err, c.kept)
			}
			if exists(beta.Dir) {
				t.Error("its folder is there")
			}
		})
	}
}

// TestAKilledRunTakesNothingForEver: a run that was killed before there was a
// supervisor counts as being started, so that two do not both find the last free
// place. Reconcile ends that also where nothing is to be started again.
func TestAKilledRunTakesNothingForEver(t *testing.T) {
	h := newHost(t)
	spec, err := h.Store.LoadSpec("acme")
	if err == nil {
		err = h.wantRunning(t.Context(), "acme", spec)
	}
	if err != nil {
		t.Fatal(err)
	}
	if taken, err := h.taken(""); err != nil || len(taken) != 1 {
		t.Fatalf("while it is being started %v are taken, %v", taken, err)
	}
	acts, err := h.Reconcile(t.Context(), false)
	if err != nil || len(acts) != 1 {
		t.Errorf("%v, %v", acts, err)
	}
	if taken, err := h.taken(""); err != nil || len(taken) != 0 {
		t.Errorf("for ever %v are taken, %v", taken, err)
	}
	if acts, err := h.Reconcile(t.Context(), false); err != nil || len(acts) != 0 {
		t.Errorf("once more: %v, %v", acts, err)
	}
}
