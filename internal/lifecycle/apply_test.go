package lifecycle

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/auser/mvm/internal/fleet"
	"github.com/auser/mvm/internal/tenant"
)

// TestPlanMakesFoldersAbsolute: of a tenant that is to be created and of one
// that is there; a second look finds nothing to change.
func TestPlanMakesFoldersAbsolute(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	for _, path := range []string{"flake.nix", "shared"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var wishes []fleet.Wish
	for _, id := range []string{"acme", "new"} { // acme is there
		spec := tenant.Spec{TenantID: id, FlakeRef: ".", Volumes: tenant.Volumes{{Mount: "/srv", Folder: "shared"}}}
		spec.Defaults()
		wishes = append(wishes, fleet.Wish{Spec: spec})
	}
	plans, err := h.PlanFleet(wishes, dir, false)
	if err != nil || len(plans) != 2 {
		t.Fatalf("plans = %v, %v", plans, err)
	}
	for i, step := range []string{"change", "create"} {
		p := plans[i]
		if !slices.Equal(p.Steps, []string{step}) || p.want.Volumes[0].Folder != filepath.Join(dir, "shared") {
			t.Errorf("%s: %v, to have %v", p.Tenant, p.Steps, p.want.Volumes)
		}
	}
	if err := h.Store.SaveSpec(plans[0].want); err != nil {
		t.Fatal(err)
	}
	if plans, err = h.PlanFleet(wishes[:1], dir, false); err != nil || len(plans) != 0 {
		t.Errorf("it plans %v again, %v", plans, err)
	}
	wishes[1].Spec.Volumes[0].Folder = "missing"
	if _, err := h.PlanFleet(wishes, dir, false); err == nil {
		t.Error("a folder that is missing was planned with")
	}
}
