package firewall

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// inOwnNamespace calls fn on a thread with a network namespace of its own,
// which ends with it. The commands that fn starts are in it, too.
func inOwnNamespace(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("cannot make a network namespace: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
