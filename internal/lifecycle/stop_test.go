package lifecycle

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/auser/mvm/internal/tenant"
)

// What is to be stopped is whatever has a supervisor, known to its state or not,
// and what went down without being stopped.
func TestToStop(t *testing.T) {
	h := newHost(t) // with acme, which never ran
	for id, state := range map[string]tenant.State{
		"stopped":  {Phase: tenant.Stopped},
		"failed":   {Phase: tenant.Failed},
		"young":    {Phase: tenant.Stopped}, // run has only just started its supervisor
		"rebooted": {Phase: tenant.Running, Wanted: true},
		"killed":   {Phase: tenant.Stopping}, // while it was being stopped
		"crashed":  {Phase: tenant.Failed, Wanted: true},
		"damaged":  {},
		"torn":     {}, // damaged, and it runs
	} {
		addTenant(t, h, id)
		err := h.Store.UpdateState(id, func(s *tenant.State) error {
			s.Phase, s.Wanted = state.Phase, state.Wanted
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"damaged", "torn"} {
		if err := os.WriteFile(h.Store.Tenant(id).StateFile(), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"young", "torn"} {
		lock, err := h.Store.LockSupervisor(t.Context(), id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Unlock()
	}
	ids, err := h.ToStop()
	if want := []string{"crashed", "killed", "rebooted", "torn", "young"}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("%q, %v; want %q", ids, err, want)
	}
}
