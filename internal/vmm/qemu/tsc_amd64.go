package qemu

import (
	"bufio"
	"os"
	"strings"
	"time"
)

// rdtsc reads this CPU's time stamp counter.
func rdtsc() uint64

// tsc measures how fast the host's time stamp counter runs, which is what an
// emulated guest reads, too: from when it is made until it is asked.
//
// The microvm machine has no timer to calibrate it with but the PIT, and a
// kernel that is preempted while it tries, as on any busy host, gives up and
// then waits for ever for its first tick.
type tsc struct{ first reading }

func newTSC() tsc { return tsc{readBoth()} }

const (
	// precision is the part of the time between two readings that may be
	// uncertain: a hundred-thousandth, not a second a day for the guest's clock.
	precision = 100_000
	// longestWait is for hosts whose clock is slow to read.
	longestWait = 30 * time.Millisecond
	// longest is how old the first reading may be: while a host sleeps, the
	// counter runs on, or begins anew, and the clock stands.
	longest = time.Second
)

// kHz is its frequency; 0 where it is not constant. It waits only where too
// little time has passed to tell.
func (t tsc) kHz() int {
	if !constantTSC() {
		return 0
	}
	first := t.first
	for {
		now := readBoth()
		passed := now.at.Sub(first.at)
		if passed > longest {
			first = now
			continue
		}
		need := min(precision*(first.within+now.within), longestWait)
		if passed >= need {
			return int(float64(now.counter-first.counter) / float64(passed) * 1e6)
		}
		time.Sleep(need - passed)
	}
}

// constantTSC asks the first CPU: its lines alone, since the kernel makes those
// of hundreds of others when they are read.
func constantTSC() bool {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "flags") {
			return strings.Contains(lines.Text(), " constant_tsc")
		}
	}
	return false
}

// reading is what the counter had at one instant.
type reading struct {
	at      time.Time
	within  time.Duration // of it the counter was read
	counter uint64
}

// readBoth reads clock and counter: the closest of some tries.
func readBoth() (best reading) {
	for try := range 10 {
		before := time.Now()
		counter := rdtsc()
		half := (time.Since(before) + 1) / 2
		if try == 0 || half < best.within {
			best = reading{before.Add(half), half, counter}
		}
	}
	return best
}
