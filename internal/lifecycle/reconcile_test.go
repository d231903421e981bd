package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/auser/mvm/internal/tenant"
)

// TestReconcileAtOnce: several that find the same things to do at the same
// time all succeed; afterwards they are done, and nothing is left to do.
func TestReconcileAtOnce(t *testing.T) {
	h := newHost(t)
	gone := h.Store.GoneDir("beta") // of a destroy that was cut short
	if err := os.MkdirAll(filepath.Join(gone, "volumes"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.UpdateState("acme", func(s *tenant.State) error { // its supervisor was killed
		s.Phase, s.Running, s.FirecrackerPID, s.BootID = tenant.Running, true, 1<<30, "another boot"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if acts, err := h.Reconcile(t.Context(), false); err != nil {
				t.Errorf("%v, having done %v", err, acts)
			}
		})
	}
	all.Wait()
	acts, err := h.Reconcile(t.Context(), false)
	if err != nil || len(acts) > 0 {
		t.Errorf("once more: %v, %v", acts, err)
	}
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", gone, err)
	}
	s, err := h.Observe("acme")
	if err != nil || s.Phase != tenant.Stopped || s.State.Phase != tenant.Stopped || !strings.Contains(s.State.Reason, "restarted") {
		t.Errorf("acme is %s (%s), %v", s.State.Phase, s.State.Reason, err)
	}
}
