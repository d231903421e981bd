package qemu

import (
	"math"
	"testing"
	"time"
)

// TestTSC: what is measured in as little time as it takes and what is measured
// in much more agree closely enough for a guest's clock. A tenth of a per mille is
// 9 seconds a day, less than NTP corrects. A host's sleep in between does no harm.
func TestTSC(t *testing.T) {
	long, began := newTSC(), time.Now()
	var short []int
	for range 10 {
		short = append(short, newTSC().kHz())
	}
	took := time.Since(began) / time.Duration(len(short))
	all := long.kHz()
	slept := newTSC() // as after a night on which the counter began anew
	slept.first.at, slept.first.counter = slept.first.at.Add(-time.Hour), slept.first.counter*2
	short = append(short, slept.kHz())
	if all == 0 {
		t.Skip("this host's time stamp counter is not constant")
	}
	for _, one := range short {
		if drift := math.Abs(float64(one-all)) / float64(all); drift > 1e-4 {
			t.Errorf("measured %d kHz, over a longer time %d", one, all)
		}
	}
	t.Logf("%v kHz in %s each, %d over all", short, took, all)
}
