package main

import (
	"context"
	"os"

	"github.com/auser/mvm/internal/limacli"
)

// run executes a command line in the Lima VM: there is no other way here.
func run(ctx context.Context, args []string) int {
	args, _ = limacli.Wanted(args, os.Getenv)
	return limacli.Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}
