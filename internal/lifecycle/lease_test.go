package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/tenant"
)

// TestRebuiltLeasesKeepThatOfACreate: where the registry is damaged while a
// tenant is being created, nobody else gets its address.
func TestRebuiltLeasesKeepThatOfACreate(t *testing.T) {
	h, err := Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.Store.RunDir) })
	specs := map[string]tenant.Spec{}
	for _, id := range []string{"acme", "beta"} {
		spec := tenant.Spec{TenantID: id}
		spec.Defaults()
		specs[id] = spec
		if err := makeFolders(h.Store.Tenant(id)); err != nil {
			t.Fatal(err)
		}
	}
	first, err := h.lease(t.Context(), specs["acme"]) // and no spec yet
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Store.LeasesFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := h.lease(t.Context(), specs["beta"])
	if err != nil || other.Net.IP == first.Net.IP {
		t.Errorf("beta got %s, %v; acme had %s", other.Net.IP, err, first.Net.IP)
	}
	if again, err := h.lease(t.Context(), specs["acme"]); err != nil || again.Net.IP != first.Net.IP {
		t.Errorf("acme has %s, %v; it had %s", again.Net.IP, err, first.Net.IP)
	}
}

// TestReconcileRebuildsTheLeases: it says so, and the second finds them whole.
func TestReconcileRebuildsTheLeases(t *testing.T) {
	h := newHost(t)
	state, err := h.lease(t.Context(), tenant.Spec{TenantID: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Store.LeasesFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	acts, err := h.Reconcile(t.Context(), false)
	if err != nil || len(acts) != 1 || !strings.Contains(acts[0].What, h.Store.LeasesFile()) {
		t.Errorf("acts = %v, %v", acts, err)
	}
	leases, damaged, err := h.readLeases()
	if err != nil || damaged != nil || leases.Leases()["acme"].String() != state.Net.IP {
		t.Errorf("leases = %v, %v, %v", leases, damaged, err)
	}
}

// TestLeaseRefusesAClash: these two ids have one short hash.
func TestLeaseRefusesAClash(t *testing.T) {
	h := newHost(t)
	if err := makeFolders(h.Store.Tenant("team-17810026")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.lease(t.Context(), tenant.Spec{TenantID: "team-17810026"}); err != nil {
		t.Fatal(err)
	}
	_, err := h.lease(t.Context(), tenant.Spec{TenantID: "team-30578529"})
	var input *tenant.InputError
	if !errors.As(err, &input) || !strings.Contains(err.Error(), "team-17810026") {
		t.Errorf("err = %v", err)
	}
	leases, err := h.leases()
	if err != nil || len(leases.Leases()) != 1 {
		t.Errorf("leases = %v, %v", leases, err)
	}
}

// TestNoTwoTenantsShareAUser: counted from another number, the next tenant's
// user could be one that another tenant has.
func TestNoTwoTenantsShareAUser(t *testing.T) {
	h := newHost(t)
	for _, id := range []string{"first", "second", "third"} {
		if err := makeFolders(h.Store.Tenant(id)); err != nil {
			t.Fatal(err)
		}
	}
	base := h.Config.Limits.UIDBase
	first, err := h.lease(t.Context(), tenant.Spec{TenantID: "first"})
	if err != nil {
		t.Fatal(err)
	}
	near := func(by int) {
		t.Helper()
		h.Config.Limits.UIDBase = base + by
		var refused *Error
		if state, err := h.lease(t.Context(), tenant.Spec{TenantID: "third"}); !errors.As(err, &refused) || !strings.Contains(refused.Hint, fmt.Sprint("back to ", base)) {
			t.Errorf("users %d and %d, %v", first.UID, state.UID, err)
		}
	}
	near(-1)
	near(1)
	// Those from before that number was another for each root keep theirs.
	h.Config.Limits.UIDBase = base + 1<<20
	second, err := h.lease(t.Context(), tenant.Spec{TenantID: "second"})
	if err != nil || second.UID <= first.UID+1<<16 {
		t.Errorf("users %d and %d, %v", first.UID, second.UID, err)
	}
	near(1)
	h.Config.Limits.UIDBase = base
	if third, err := h.lease(t.Context(), tenant.Spec{TenantID: "third"}); err != nil || third.UID == first.UID {
		t.Errorf("users %d and %d, %v", first.UID, third.UID, err)
	}
}
