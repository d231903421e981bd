package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

const (
	besideReconcile = 4 // tenants that live while reconcile goes on
	lives           = 2 // of each of them, one after the other
)

// TestReconcileBeside has two processes reconcile without a pause while others
// create, build, run, change, stop and destroy tenants. No command fails, no tenant
// loses what was made for it, and reconcile finds nothing to mend: what is on
// its way is nobody's leftover.
func TestReconcileBeside(t *testing.T) {
	k := newStandinEnv(t, "beside", "10.56.0.1/24")
	flake := newToy(t)
	flake.edit(t)
	var living, reconciling sync.WaitGroup
	ended := make(chan struct{})
	for range 2 {
		reconciling.Go(func() { k.reconcileUntil(t, ended) })
	}
	for i := range besideReconcile {
		living.Go(func() {
			for range lives {
				k.liveOn(t, fmt.Sprintf("beside-%d", i), flake.dir)
			}
		})
	}
	living.Wait()
	close(ended)
	reconciling.Wait()
	k.wantNoLeftovers(t)
}

// reconcileUntil fails the test where a reconcile fails, or does anything.
func (k *killEnv) reconcileUntil(t *testing.T, ended <-chan struct{}) {
	for n := 1; ; n++ {
		if out, err := k.try("reconcile"); err != nil || out != "everything is as it should be\n" {
			t.Errorf("reconcile: %v\n%s", err, out)
		}
		select {
		case <-ended:
			t.Logf("reconciled %d times", n)
			return
		default:
		}
	}
}

// liveOn is one life of a tenant.
func (k *killEnv) liveOn(t *testing.T, id, flake string) {
	does := func(args ...string) {
		if out, err := k.try(args...); err != nil {
			t.Errorf("mvm %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	runs := func(want bool) {
		out, err := k.try("tenant", "show", id, "--json")
		if err != nil || strings.Contains(out, "\n  \"running\": true,") != want {
			t.Errorf("%s should run: %v; %v\n%s", id, want, err, out)
		}
	}
	does("tenant", "create", id, "--flake", flake, "--profile", "minimal", "--data-size", "16", "--mem", "64", "--restart", "unless-stopped")
	does("tenant", "build", id)
	for range 2 {
		does("tenant", "run", id, "--no-wait")
		runs(true)
		does("tenant", "set", id, "--egress", "none")
		does("tenant", "stop", id, "--timeout", "0")
		runs(false)
	}
	if out, err := k.try("tenant", "list"); err != nil || strings.Contains(out, "cannot be read") {
		t.Errorf("list: %v\n%s", err, out)
	}
	does("tenant", "destroy", id, "--wipe-volumes", "--yes")
}
