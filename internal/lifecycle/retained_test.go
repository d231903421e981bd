package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// TestRetainedNames: each comes after those before it, within one millisecond
// and where the clock was set back, too; what is no time counts for none.
func TestRetainedNames(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	names := []string{"acme-notes"}
	for _, passed := range []time.Duration{0, 0, time.Microsecond, time.Hour, -24 * time.Hour, time.Second, 48 * time.Hour} {
		now = now.Add(passed)
		name := retainedName("acme", names, now)
		if last := names[len(names)-1]; len(names) > 1 && name <= last {
			t.Errorf("%s comes after %s", name, last)
		}
		names = append(names, name)
	}
	for at, want := range map[int]string{
		1: "acme-20260101T000000.000Z", 2: "acme-20260101T000000.001Z", 3: "acme-20260101T000000.002Z",
		4: "acme-20260101T010000.000Z", 5: "acme-20260101T010000.001Z", 7: "acme-20260102T010001.000Z",
	} {
		if names[at] != want {
			t.Errorf("name %d is %s, want %s", at, names[at], want)
		}
	}
}

// TestAWipeLeavesNothing: an adoption that was killed has left the image a
// second name among what is kept. Whatever is done with the tenant's volume
// then, that is no other's: a wipe wipes it, and what is kept is kept once.
func TestAWipeLeavesNothing(t *testing.T) {
	for _, spec := range []bool{false, true} { // killed before or after the spec was written
		for _, wipe := range []bool{true, false} {
			for name, destroy := range map[string]func(*Host, tenant.Volume) (Destroyed, error){
				"volume": func(h *Host, v tenant.Volume) (Destroyed, error) {
					return h.DestroyVolume(t.Context(), "acme", v.Mount, wipe)
				},
				"tenant": func(h *Host, _ tenant.Volume) (Destroyed, error) {
					return h.Destroy(t.Context(), "acme", DestroyOptions{WipeVolumes: wipe})
				},
			} {
				t.Run(fmt.Sprintf("%s, named %t, wiped %t", name, spec, wipe), func(t *testing.T) {
					h := newHost(t)
					v := withWork(t, h)
					other := keepWork(t, h, v)
					killAdoption(t, h, v, other, spec)
					done, err := destroy(h, v)
					if err != nil || done.Already || (done.Retained == "") != wipe {
						t.Fatalf("%+v, %v", done, err)
					}
					var want []string
					if !wipe {
						want = []string{filepath.Join(done.Retained, v.FileName())}
					}
					if images, err := filepath.Glob(filepath.Join(h.Store.RetainedDir(), "*", v.FileName())); err != nil || !slices.Equal(images, want) {
						t.Errorf("kept are %v, %v, want %v", images, err, want)
					}
					if names, err := h.Retained("acme"); err != nil || len(names) != len(want) {
						t.Errorf("kept are %v, %v", names, err)
					}
				})
			}
		}
	}
}

// keepWork has the volume kept aside and says under which name.
func keepWork(t *testing.T, h *Host, v tenant.Volume) string {
	t.Helper()
	done, err := h.DestroyVolume(t.Context(), "acme", v.Mount, false)
	if err != nil {
		t.Fatal(err)
	}
	return done.Retained
}

// killAdoption does what an adoption has done when it is killed.
func killAdoption(t *testing.T, h *Host, v tenant.Volume, from string, spec bool) {
	t.Helper()
	err := take(tenant.Volumes{v}, from, h.Store.Tenant("acme"))
	if err == nil && spec {
		var s tenant.Spec
		if s, err = h.Store.LoadSpec("acme"); err == nil {
			s.ChangeVolumes([]tenant.Volume{v})
			err = h.Store.SaveSpec(s)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnAdoptionEndsWithWhatWasTaken: what it had not taken yet stays kept.
func TestAnAdoptionEndsWithWhatWasTaken(t *testing.T) {
	h := newHost(t)
	v := withWork(t, h)
	from := keepWork(t, h, v)
	if err := os.WriteFile(filepath.Join(from, "other.ext4"), []byte("not taken"), 0o600); err != nil {
		t.Fatal(err)
	}
	killAdoption(t, h, v, from, false)
	own := h.Store.Tenant("acme")
	if err := h.endAdoption(own); err != nil {
		t.Fatal(err)
	}
	mounts, err := mountsIn(from)
	if err != nil || !slices.Equal(mounts, []string{"/other"}) {
		t.Errorf("kept are %v, %v", mounts, err)
	}
	if !exists(own.Volume(v)) {
		t.Error("what was taken is gone")
	}
	// Nor does it touch what is another's, or nobody's.
	for _, t2 := range []store.Tenant{own, h.Store.Tenant("nobody")} {
		if err := h.endAdoption(t2); err != nil {
			t.Error(err)
		}
	}
}

// TestRemovedForGood: nothing that is kept is removed for good as long as an
// adoption that was killed has left the tenant a name of it that no spec names;
// what the error advises does it. Once the spec names it, it is the tenant's.
func TestRemovedForGood(t *testing.T) {
	for _, named := range []bool{false, true} {
		h := newHost(t)
		v := withWork(t, h)
		kept := keepWork(t, h, v)
		killAdoption(t, h, v, kept, named)
		own := h.Store.Tenant("acme").Volume(v)
		_, err := h.RemoveRetained(t.Context(), filepath.Base(kept))
		if named {
			if err != nil || exists(kept) || !exists(own) {
				t.Errorf("named: %v; kept: %t, the tenant's: %t", err, exists(kept), exists(own))
			}
			continue
		}
		if hint := fault.Hint(err); !errors.Is(err, ErrState) || !strings.Contains(hint, "mvm tenant volume destroy acme /srv/work --wipe") {
			t.Errorf("%v, hint %q", err, hint)
		}
		if !exists(kept) || !exists(own) {
			t.Error("it was refused and done")
		}
		if _, err := h.DestroyVolume(t.Context(), "acme", v.Mount, true); err != nil || exists(kept) || exists(own) {
			t.Errorf("wiped: %v; kept: %t, the tenant's: %t", err, exists(kept), exists(own))
		}
	}
}
