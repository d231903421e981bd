// Command mvm builds tenants' guests from Nix flakes and runs each in its own
// microVM.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	// A command lives for moments: up to some 40 MiB it spares time rather than
	// memory. Only a supervisor lives long, and is told to be small.
	if os.Getenv("GOGC")+os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(1000)
		debug.SetMemoryLimit(256 << 20)
	}
	os.Exit(run(interruptible(), os.Args[1:]))
}

// interruptible is a context that ends when this command is interrupted. Who
// interrupts it once more ends it at once, as every command may be; that holds
// from the moment that the context ends.
func interruptible() context.Context {
	interrupted, unnotify := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(interrupted, func() {
		unnotify()
		cancel()
	})
	return ctx
}
