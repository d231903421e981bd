package supervisor

import "os"

// ownLogMax bounds the supervisor's own log. As much again is kept of what was
// before.
const ownLogMax = 1 << 20

// ownLog is what this process says of itself, and where the runtime writes when
// all else fails: Spawn has opened it for appending. A guest that reboots for
// years makes it long: when it is full it is copied to .1 and begins again,
// where a rename would leave the descriptors with what is no longer the log.
type ownLog struct {
	f    *os.File
	path string
	max  int64
}

func (l *ownLog) Write(p []byte) (int, error) {
	if now, err := l.f.Stat(); err == nil && now.Size()+int64(len(p)) > l.max {
		// Bounded size goes before completeness, also where the disk is full.
		if old, err := os.ReadFile(l.path); err == nil {
			_ = os.WriteFile(oldLog(l.path), old, 0o600)
		}
		_ = l.f.Truncate(0) // what fails is tried again by the next line
	}
	return l.f.Write(p)
}

// oldLog is what was in the log at path before it began again.
func oldLog(path string) string { return path + ".1" }

// openOwnLog makes the log at path anew.
func openOwnLog(path string) (*os.File, error) {
	if err := os.RemoveAll(oldLog(path)); err != nil { // of an earlier supervisor
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
}
