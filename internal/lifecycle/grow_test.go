package lifecycle

import (
	"os"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// TestSetTellsOfAGrowthThatIsLeft: where the disk has grown and its file system
// has not, asking for the same once more says what is left; a volume that is
// none any more keeps nobody from setting what it has nothing to do with.
func TestSetTellsOfAGrowthThatIsLeft(t *testing.T) {
	h := newHost(t)
	path := h.Store.Tenant("acme").DataVolume()
	if _, err := volume.CreateData(t.Context(), path, 32, 1, 1); err != nil {
		t.Fatal(err)
	}
	again := func() string {
		t.Helper()
		done, err := h.Set(t.Context(), "acme", "/", func(*tenant.Spec) {})
		if err != nil {
			t.Fatal(err)
		}
		return done.Note
	}
	if note := again(); note != "" {
		t.Errorf("nothing is left: %q", note)
	}
	if err := volume.Extend(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	if note := again(); !strings.Contains(note, "its file system grows at the next start: the guest is created") {
		t.Errorf("note = %q", note)
	}
	if lock, _, err := volume.Acquire(t.Context(), path); err != nil || lock.Close() != nil {
		t.Fatal(err)
	}
	if note := again(); note != "" {
		t.Errorf("after the next start: %q", note)
	}
	if err := os.WriteFile(path, []byte("the guest's own idea"), 0o600); err != nil {
		t.Fatal(err)
	}
	if note := again(); note != "" {
		t.Errorf("no volume: %q", note)
	}
}
