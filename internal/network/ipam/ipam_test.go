package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var subnet = netip.MustParsePrefix("10.50.0.1/24")

func write(t *testing.T, r *Registry) string {
	t.Helper()
	data, err := r.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "leases.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func lease(t *testing.T, r *Registry, id string) string {
	t.Helper()
	addr, _, err := r.Lease(id)
	if err != nil {
		t.Fatal(err)
	}
	return addr.String()
}

func TestLeasesAreSequentialAndStable(t *testing.T) {
	r, err := Load(filepath.Join(t.TempDir(), "none.json"), subnet)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{lease(t, r, "a"), lease(t, r, "b"), lease(t, r, "c"), lease(t, r, "b")}
	if !r.Release("b") || r.Release("b") {
		t.Error("a lease must be released once")
	}
	r, err = Load(write(t, r), subnet)
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, lease(t, r, "a"), lease(t, r, "d"), lease(t, r, "e"))
	want := []string{"10.50.0.10", "10.50.0.11", "10.50.0.12", "10.50.0.11", "10.50.0.10", "10.50.0.11", "10.50.0.13"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, changed, _ := r.Lease("a"); changed {
		t.Error("asking for a lease that exists changes nothing")
	}
}

func TestFullPool(t *testing.T) {
	small := netip.MustParsePrefix("192.168.7.1/28")
	r, err := New(small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range Size(small) {
		lease(t, r, fmt.Sprint("t", i))
	}
	if addr := r.Leases()["t4"]; addr.String() != "192.168.7.14" || Size(small) != 5 {
		t.Errorf("the last address of %d is %s", Size(small), addr)
	}
	if _, _, err := r.Lease("one-more"); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
}

func TestSubnetChange(t *testing.T) {
	r, err := New(subnet)
	if err != nil {
		t.Fatal(err)
	}
	other := netip.MustParsePrefix("10.60.0.1/16")
	if _, err := Load(write(t, r), other); err != nil {
		t.Errorf("without tenants the subnet may change: %v", err)
	}
	lease(t, r, "a")
	_, err = Load(write(t, r), other)
	if changed := (*SubnetChangedError)(nil); !errors.As(err, &changed) || changed.Tenants != 1 {
		t.Errorf("got %v", err)
	}
}

func TestDamagedRegistry(t *testing.T) {
	for name, text := range map[string]string{
		"empty":          "",
		"cut":            `{"schema_version":1,"subnet":"10.50.0.1/24","leas`,
		"null":           `null`,
		"no leases":      `{"schema_version":1,"subnet":"10.50.0.1/24"}`,
		"unknown field":  `{"schema_version":1,"subnet":"10.50.0.1/24","leases":{},"x":1}`,
		"shared address": `{"schema_version":1,"subnet":"10.50.0.1/24","leases":{"a":"10.50.0.10","b":"10.50.0.10"}}`,
		"gateway":        `{"schema_version":1,"subnet":"10.50.0.1/24","leases":{"a":"10.50.0.1"}}`,
		"broadcast":      `{"schema_version":1,"subnet":"10.50.0.1/24","leases":{"a":"10.50.0.255"}}`,
		"outside":        `{"schema_version":1,"subnet":"10.50.0.1/24","leases":{"a":"10.51.0.10"}}`,
		"leased twice":   `{"schema_version":1,"subnet":"10.50.0.1/24","leases":{"a":"10.50.0.10","a":"10.50.0.11"}}`,
		"no address":     `{"schema_version":1,"subnet":"10.50.0.1/24","leases":{"a":""}}`,
	} {
		path := filepath.Join(t.TempDir(), "leases.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, subnet)
		if damaged := (*DamagedError)(nil); !errors.As(err, &damaged) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestRebuildKeepsEveryAddress(t *testing.T) {
	known := map[string]netip.Addr{"a": netip.MustParseAddr("10.50.0.11"), "b": netip.MustParseAddr("10.50.0.40")}
	r, err := Rebuild(subnet, known)
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{lease(t, r, "a"), lease(t, r, "c")}; got[0] != "10.50.0.11" || got[1] != "10.50.0.10" {
		t.Errorf("got %v", got)
	}
}

func TestRebuildOfNothing(t *testing.T) {
	r, err := Rebuild(subnet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := lease(t, r, "a"); got != "10.50.0.10" {
		t.Errorf("got %s", got)
	}
}

func TestFieldsOfANewerVersionSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.json")
	text := `{"schema_version":2,"subnet":"10.50.0.1/24","leases":{"a":"10.50.0.10"},"pools":["x"]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path, subnet)
	if err != nil {
		t.Fatal(err)
	}
	lease(t, r, "b")
	data, err := r.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "leases": {
    "a": "10.50.0.10",
    "b": "10.50.0.11"
  },
  "pools": [
    "x"
  ],
  "schema_version": 2,
  "subnet": "10.50.0.1/24"
}
`
	if d := cmp.Diff(want, string(data)); d != "" {
		t.Error(d)
	}
}

func TestIndexAndSubnets(t *testing.T) {
	big := netip.MustParsePrefix("10.60.0.1/16")
	for addr, want := range map[string]int{"10.60.0.10": 0, "10.60.0.255": 245, "10.60.255.254": 65524} {
		if got, err := Index(big, netip.MustParseAddr(addr)); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", addr, got, err, want)
		}
	}
	for _, addr := range []string{"10.60.0.1", "10.60.0.9", "10.60.255.255", "10.61.0.10"} {
		if _, err := Index(big, netip.MustParseAddr(addr)); err == nil {
			t.Errorf("%s is no tenant's address", addr)
		}
	}
	for _, bad := range []string{"10.0.0.1/8", "10.50.0.1/29", "10.50.0.2/24", "10.50.0.0/24", "fd00::1/64"} {
		if err := CheckSubnet(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s must be refused", bad)
		}
	}
}

// A network of one guest, such as the dev microVM's.
func TestSmallestSubnet(t *testing.T) {
	subnet := netip.MustParsePrefix("172.16.0.1/30")
	r, err := New(subnet)
	if err != nil {
		t.Fatal(err)
	}
	addr, _, err := r.Lease("dev")
	if err != nil || addr.String() != "172.16.0.2" {
		t.Fatalf("leased %s, %v", addr, err)
	}
	if i, err := Index(subnet, addr); err != nil || i != 0 {
		t.Errorf("index %d, %v", i, err)
	}
	if _, _, err := r.Lease("other"); !errors.Is(err, ErrFull) {
		t.Errorf("a second guest: %v", err)
	}
}

// FuzzParse: whatever the file holds, it is refused or it is a registry that
// says the same when it is written and read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema_version":1,"subnet":"10.50.0.1/24","leases":{"a":"10.50.0.10"}}`))
	f.Add([]byte(`{"schema_version":2,"subnet":"10.50.0.1/24","leases":{"a":"10.50.0.10"},"pools":["x"]}`))
	f.Add([]byte(`{"schema_version":1,"subnet":"","leases":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data, subnet)
		if err != nil {
			return
		}
		holders := map[netip.Addr]string{}
		for id, addr := range r.Leases() {
			if _, err := Index(subnet, addr); err != nil || holders[addr] != "" {
				t.Fatalf("tenant %q has %s, as has %q: %v", id, addr, holders[addr], err)
			}
			holders[addr] = id
		}
		text, err := r.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(text, subnet)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if d := cmp.Diff(r.Leases(), again.Leases(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Error(d)
		}
	})
}
