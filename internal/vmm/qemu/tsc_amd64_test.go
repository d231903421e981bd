package qemu

import (
	"math"
	"testing"
)

// TestHostTSC: two measurements agree closely enough for a guest's clock. A
// tenth of a per mille is 9 seconds a day, less than NTP corrects.
func TestHostTSC(t *testing.T) {
	first, second := hostTSCKHz(), hostTSCKHz()
	if first == 0 {
		t.Skip("this host's time stamp counter is not constant")
	}
	if drift := math.Abs(float64(first-second)) / float64(first); drift > 1e-4 {
		t.Errorf("measured %d and %d kHz", first, second)
	}
	t.Logf("%d kHz, %d kHz", first, second)
}
