package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
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

// TestATenantKeepsItsUser: settings that changed since a tenant was created
// cost it no TAP while it runs, also where its state cannot be read.
func TestATenantKeepsItsUser(t *testing.T) {
	h := newHost(t)
	state, err := h.lease(t.Context(), tenant.Spec{TenantID: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := h.Store.LockSupervisor(t.Context(), "acme", 0) // as if it ran
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	h.Config.Limits.UIDBase += 1000
	data := h.Store.Tenant("acme").DataVolume()
	if _, err := volume.CreateData(t.Context(), data, tenant.DefaultDataMiB, state.UID, state.UID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		eps, err := (&reconciler{Host: h}).endpoints()
		if err != nil || len(eps) != 1 || eps[0].UID != state.UID || eps[0].GID != state.UID {
			t.Errorf("endpoints %+v, %v, want one of uid %d", eps, err, state.UID)
		}
		if err := os.WriteFile(h.Store.Tenant("acme").StateFile(), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReconcileOfMany: what is found side by side is done for each of them, in
// their order, and a damaged one keeps none of the others from it.
func TestReconcileOfMany(t *testing.T) {
	h := newHost(t)
	var want []string
	for i := range 30 {
		id := fmt.Sprintf("tenant-%02d", i)
		addTenant(t, h, id)
		dir := h.Store.Tenant(id)
		switch i % 6 {
		case 1: // its supervisor was killed
			if err := h.Store.UpdateState(id, func(s *tenant.State) error {
				s.Phase, s.Running, s.FirecrackerPID, s.BootID = tenant.Running, true, 1<<30, "another boot"
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			want = append(want, id+": sweep after its run (the host was restarted)")
		case 3: // a writer of one of its files was killed
			if err := os.WriteFile(filepath.Join(dir.ArtifactsDir(), ".tmp-manifest.json-1"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			want = append(want, id+": remove what a killed write or run left")
		case 5:
			if i != 5 {
				break
			}
			if err := os.WriteFile(dir.StateFile(), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			want = append(want, id+": look at it: failed: "+dir.StateFile())
		}
	}
	for range 2 {
		acts, err := h.Reconcile(t.Context(), false)
		if err == nil {
			t.Error("the damaged state was not reported")
		}
		var got []string
		for _, a := range acts {
			text, _, _ := strings.Cut(a.String(), " is damaged")
			got = append(got, text)
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("done:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		want = slices.DeleteFunc(want, func(w string) bool { return !strings.Contains(w, "state.json") })
	}
}

// TestShouldRun: what was wanted runs again, unless it ran and ended as often as
// it may, in this boot of the host. A start that failed ends nothing.
func TestShouldRun(t *testing.T) {
	ran := time.Unix(1, 0)
	for name, c := range map[string]struct {
		state tenant.State
		modes string // under which it should run
	}{
		"created":              {tenant.State{Phase: tenant.Created}, ""},
		"stopped":              {tenant.State{Phase: tenant.Stopped, LastStartedAt: ran}, "always"},
		"the host went down":   {tenant.State{Phase: tenant.Stopped, LastStartedAt: ran, Wanted: true, BootID: "before"}, "always unless-stopped on-failure"},
		"its start failed":     {tenant.State{Phase: tenant.Failed, LastStartedAt: ran, Wanted: true, SupervisorPID: 7, BootID: "now"}, "always unless-stopped on-failure"},
		"its first start":      {tenant.State{Phase: tenant.Failed, Wanted: true, SupervisorPID: 7, BootID: "now"}, "always unless-stopped on-failure"},
		"it gave up":           {tenant.State{Phase: tenant.Failed, LastStartedAt: ran, Wanted: true, GaveUp: true, BootID: "now"}, "always"},
		"it gave up, long ago": {tenant.State{Phase: tenant.Failed, LastStartedAt: ran, Wanted: true, GaveUp: true, BootID: "before"}, "always unless-stopped on-failure"},
	} {
		for _, mode := range []tenant.RestartMode{tenant.RestartNo, tenant.RestartAlways, tenant.RestartUnlessStopped, tenant.RestartOnFailure} {
			want := slices.Contains(strings.Fields(c.modes), string(mode))
			if got := shouldRun(mode, c.state, "now"); got != want {
				t.Errorf("%s, %s: it should run: %t, want %t", name, mode, got, want)
			}
		}
	}
}

// TestReconcileSaysWhyNothingRuns: a start that does not come as far as a
// supervisor is said by the tenant's state, and tried again by the next.
func TestReconcileSaysWhyNothingRuns(t *testing.T) {
	h := newHost(t)
	if err := h.Store.UpdateState("acme", func(s *tenant.State) error {
		s.Phase, s.Wanted, s.LastStartedAt = tenant.Stopped, true, time.Now()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Set(t.Context(), "acme", "/", func(s *tenant.Spec) { s.Restart = "unless-stopped" }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		acts, err := h.Reconcile(t.Context(), false)
		if err == nil || len(acts) != 1 || !strings.HasPrefix(acts[0].String(), "acme: start it: failed: it is not built") {
			t.Errorf("%v, %v", acts, err)
		}
		s, err := h.Observe("acme")
		if err != nil || s.Phase != tenant.Failed || s.Reason != "it could not be started: it is not built" {
			t.Errorf("it is %s (%s), %v", s.Phase, s.Reason, err)
		}
	}
}
