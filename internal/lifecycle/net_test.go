package lifecycle

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// TestRemoveNetwork runs in a network namespace of its own: the network goes
// whole, once, and not while a tenant runs in it.
func TestRemoveNetwork(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	h := newHost(t)
	state := addPlaced(t, h, "beta")
	ep, err := supervisor.Endpoint(state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.Attach(t.Context(), supervisor.NetworkConfig(h.Store, h.Config), ep); err != nil {
		t.Fatal(err)
	}
	running, err := h.Store.LockSupervisor(t.Context(), "beta", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.RemoveNetwork(t.Context()); !errors.Is(err, ErrState) {
		t.Errorf("while beta runs: %v", err)
	}
	if s, err := h.Network(t.Context()); err != nil || len(s.TAPs) != 1 {
		t.Errorf("what was refused was done: %+v, %v", s, err)
	}
	running.Unlock()
	acts, err := h.RemoveNetwork(t.Context())
	if err != nil || len(acts) < 3 {
		t.Errorf("removed %v, %v", acts, err)
	}
	if again, err := h.RemoveNetwork(t.Context()); err != nil || len(again) > 0 {
		t.Errorf("removed again %v, %v", again, err)
	}
	for _, list := range [][]string{{"ip", "-o", "link"}, {"nft", "list", "ruleset"}, {"ip", "rule"}} {
		out, err := exec.Command(list[0], list[1:]...).CombinedOutput()
		if err != nil || strings.Contains(string(out), h.Store.Scope) || strings.Contains(string(out), state.Net.TAP) {
			t.Errorf("%v: %v, left:\n%s", list, err, out)
		}
	}
	record, err := h.Audit("")
	if err != nil || len(record) != 1 || record[0].Act != "net remove" {
		t.Fatalf("on record: %+v, %v", record, err)
	}
	if list, _ := record[0].Detail["acts"].([]any); len(list) != len(acts) {
		t.Errorf("on record is %v, want %v", list, acts)
	}
}

// TestRemoveNetworkIsRecordedFirst: where nothing can be put on record, nothing
// is removed. So one that is killed is on record as well.
func TestRemoveNetworkIsRecordedFirst(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	h := newHost(t)
	ep, err := supervisor.Endpoint(addPlaced(t, h, "beta"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.Attach(t.Context(), supervisor.NetworkConfig(h.Store, h.Config), ep); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Store.AuditFile(""), []byte("damaged\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if acts, err := h.RemoveNetwork(t.Context()); err == nil || len(acts) > 0 {
		t.Errorf("removed %v, %v", acts, err)
	}
	if s, err := h.Network(t.Context()); err != nil || len(s.TAPs) != 1 || s.Firewall == "" {
		t.Errorf("removed without a record: %+v, %v", s, err)
	}
}

// TestSetWhileItWaits: the policy of a tenant without its network, since it waits
// for its turn to boot, is its run's to put in place; nothing is left that the
// run, when it is stopped before, would not take away.
func TestSetWhileItWaits(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	h := newHost(t)
	state := addPlaced(t, h, "beta")
	if err := h.Store.UpdateState("beta", func(s *tenant.State) error { s.Phase = tenant.Starting; return nil }); err != nil {
		t.Fatal(err)
	}
	waits, err := h.Store.LockSupervisor(t.Context(), "beta", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer waits.Unlock()
	if _, err := h.Set(t.Context(), "beta", "/", func(s *tenant.Spec) { s.Egress = "none" }); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nft", "list", "ruleset").CombinedOutput(); err != nil || strings.Contains(string(out), state.Net.IP) {
		t.Errorf("left behind: %v\n%s", err, out)
	}
	if state, err = h.Store.LoadState("beta"); err != nil || state.Spec.Egress != "none" {
		t.Errorf("its run will have %q, %v", state.Spec.Egress, err)
	}
}

// inOwnNetwork runs the test anew in a network namespace of its own, and is true
// there.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv("MVM_TEST_NETNS") != "" {
		return true
	}
	cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "MVM_TEST_NETNS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// addPlaced adds a tenant that has a place in the network.
func addPlaced(t *testing.T, h *Host, id string) tenant.State {
	t.Helper()
	spec := tenant.Spec{TenantID: id}
	spec.Defaults()
	addTenant(t, h, id)
	state, err := h.lease(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return state
}
