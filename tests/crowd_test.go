package tests

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// inCrowd is how many tenants are created at once.
const inCrowd = 100

// TestCrowd creates and destroys many tenants, each with a process of its own
// and all at the same time. Each gets an address and a MAC that no other has,
// the addresses without a gap, and nothing of them stays.
func TestCrowd(t *testing.T) {
	e := newEnv(t)
	var ids []string
	for i := range inCrowd {
		ids = append(ids, fmt.Sprintf("crowd-%02d", i))
	}
	e.eachAtOnce(t, inCrowd, ids, create)
	var list []listed
	if err := json.Unmarshal([]byte(e.mvm(t, "tenant", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	leases := e.leases(t)
	var addrs []netip.Addr
	macs, uids := map[string]string{}, map[int]string{}
	for _, l := range list {
		addr := netip.MustParseAddr(l.State.Net.IP)
		addrs = append(addrs, addr)
		if leases[l.ID] != addr {
			t.Errorf("%s has %s, leased is %s", l.ID, addr, leases[l.ID])
		}
		if other, taken := macs[l.State.Net.MAC]; taken {
			t.Errorf("%s and %s share the MAC %s", other, l.ID, l.State.Net.MAC)
		}
		if other, taken := uids[l.State.UID]; taken {
			t.Errorf("%s and %s share the uid %d", other, l.ID, l.State.UID)
		}
		macs[l.State.Net.MAC], uids[l.State.UID] = l.ID, l.ID
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	var want []netip.Addr
	for a := netip.MustParseAddr("10.50.0.10"); len(want) < inCrowd; a = a.Next() {
		want = append(want, a)
	}
	if !slices.Equal(addrs, want) {
		t.Errorf("the addresses are %v, want %v", addrs, want)
	}
	if len(leases) != inCrowd {
		t.Errorf("%d addresses are leased, want %d", len(leases), inCrowd)
	}
	e.eachAtOnce(t, inCrowd, ids, func(id string) []string {
		return []string{"tenant", "destroy", id, "--wipe-volumes", "--yes"}
	})
	if leases := e.leases(t); len(leases) > 0 {
		t.Errorf("still leased: %v", leases)
	}
	e.wantNoLeftovers(t)
}

// leases is what the registry of addresses holds.
func (e *env) leases(t *testing.T) map[string]netip.Addr {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(e.root, "network", "leases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Leases map[string]netip.Addr `json:"leases"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.Leases
}
