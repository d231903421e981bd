// Command mvm builds tenants' guests from Nix flakes and runs each in its own
// microVM.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/auser/mvm/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
