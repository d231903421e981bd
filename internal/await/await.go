// Package await waits in tests for what nothing announces.
package await

import (
	"testing"
	"time"
)

// Until returns when holds does, and fails the test with what it says where it
// does not for that long.
func Until(t testing.TB, atMost time.Duration, holds func() (ok bool, why string)) {
	t.Helper()
	for deadline := time.Now().Add(atMost); ; time.Sleep(atMost / 500) {
		ok, why := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("in vain for %s: %s", atMost, why)
		}
	}
}
