//go:build crashpoints

// Package crash marks the places at which a test may kill the program: after
// every single step that changes something. In a normal build it does nothing
// at all; with the build tag crashpoints, the environment decides.
package crash

import (
	"fmt"
	"os"
	"syscall"
)

// Point is a place between two steps. With MVM_CRASH_TRACE set to a file, its
// name is appended there; with MVM_CRASH_AT set to its name, the process
// ends there, as by kill -9.
func Point(name string) {
	if path := os.Getenv("MVM_CRASH_TRACE"); path != "" {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			panic(fmt.Sprintf("crash: cannot trace: %v", err))
		}
		fmt.Fprintln(f, name)
		f.Close()
	}
	if os.Getenv("MVM_CRASH_AT") == name {
		// Not a signal: the first process of a PID namespace, which a
		// supervisor is, does not get its own. To everything around it this
		// end is the same.
		syscall.Exit(128 + int(syscall.SIGKILL))
	}
}

// Env is what a child process needs to be killed, too.
func Env() []string {
	return []string{"MVM_CRASH_TRACE=" + os.Getenv("MVM_CRASH_TRACE"), "MVM_CRASH_AT=" + os.Getenv("MVM_CRASH_AT")}
}
