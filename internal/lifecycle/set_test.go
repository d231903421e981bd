package lifecycle

import (
	"slices"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/tenant"
)

// TestPending: what set changed is shown until a run, or a build, has it,
// whether the tenant runs or not; what holds at once never is.
func TestPending(t *testing.T) {
	h := newHost(t)
	want := func(when string, m *build.Manifest, run, make []string) {
		t.Helper()
		s, err := h.Observe("acme")
		if err != nil {
			t.Fatal(err)
		}
		if atRun, atBuild := Pending(s, m); !slices.Equal(atRun, run) || !slices.Equal(atBuild, make) {
			t.Errorf("%s: at the next run %q, want %q; at the next build %q, want %q", when, atRun, run, atBuild, make)
		}
	}
	want("as created", nil, nil, nil)
	if _, err := h.Set(t.Context(), "acme", "/", func(s *tenant.Spec) {
		s.VCPUs, s.Profile, s.Egress, s.Restart, s.NetTxMbit = 3, "minimal", "none", "always", 50
	}); err != nil {
		t.Fatal(err)
	}
	s, err := h.Observe("acme")
	if err != nil {
		t.Fatal(err)
	}
	run := []string{"vcpus 1 → 3", "net_tx_mbit 0 → 50"}
	want("not built", nil, run, nil)
	built := &build.Manifest{Profile: tenant.DefaultProfile, Source: build.Source{Ref: s.Spec.FlakeRef}}
	want("built from another profile", built, run, []string{"profile " + tenant.DefaultProfile + " → minimal"})
	built.Profile = "minimal"
	for _, phase := range []tenant.Phase{tenant.Stopped, tenant.Failed} {
		if err := h.Store.UpdateState("acme", func(st *tenant.State) error { st.Phase = phase; return nil }); err != nil {
			t.Fatal(err)
		}
		want(string(phase), built, run, nil)
	}
	if err := h.wantRunning(t.Context(), "acme", s.Spec); err != nil {
		t.Fatal(err)
	}
	want("run again", built, nil, nil)
}
