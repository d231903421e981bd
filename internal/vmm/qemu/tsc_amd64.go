package qemu

import (
	"os"
	"strings"
	"time"
)

// rdtsc reads this CPU's time stamp counter.
func rdtsc() uint64

// hostTSCKHz measures how fast the host's time stamp counter runs, which is
// what an emulated guest reads, too; 0 where it is not constant.
//
// The microvm machine has no timer to calibrate it with but the PIT, and a
// kernel that is preempted while it tries, as on any busy host, gives up and
// then waits for ever for its first tick.
func hostTSCKHz() int {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !strings.Contains(string(cpuinfo), "constant_tsc") {
		return 0
	}
	const window = 30 * time.Millisecond
	t0, c0 := readBoth()
	time.Sleep(window)
	t1, c1 := readBoth()
	return int(float64(c1-c0) / float64(t1.Sub(t0)) * 1e6)
}

// readBoth reads clock and counter at one instant: the closest of some tries.
func readBoth() (at time.Time, counter uint64) {
	closest := time.Duration(-1)
	for range 10 {
		before := time.Now()
		c := rdtsc()
		if took := time.Since(before); closest < 0 || took < closest {
			closest, at, counter = took, before.Add(took/2), c
		}
	}
	return at, counter
}
