//go:build !amd64

package qemu

// hostTSCKHz is unknown: guests of this CPU have timers of known frequency.
func hostTSCKHz() int { return 0 }
