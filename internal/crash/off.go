//go:build !crashpoints

// Package crash marks the places at which a test may kill the program: after
// every single step that changes something. In a normal build it does nothing
// at all; with the build tag crashpoints, the environment decides.
package crash

// Point is a place between two steps.
func Point(string) {}

// Env is what a child process needs to be killed, too.
func Env() []string { return nil }
