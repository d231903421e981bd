package tenant

import "testing"

// No two roots share a VMM's uid, and nobody else on a host is given one.
func TestUIDBase(t *testing.T) {
	const (
		systemdContainers = 1_879_048_191 // the last of systemd's ids for containers
		systemdForeign    = 2_147_352_576 // the first of its next range
	)
	seen := map[int]string{}
	for _, scope := range []string{"", "00000000", "12ab34cd", "ffffffff"} {
		base := UIDBase(scope)
		if base-1 <= systemdContainers || base+uidsPerRoot >= systemdForeign || (base-firstUID)%uidsPerRoot != 0 {
			t.Errorf("the uids of %q begin at %d", scope, base)
		}
		if other, taken := seen[base]; taken {
			t.Errorf("%q and %q share their uids", scope, other)
		}
		seen[base] = scope
	}
}
