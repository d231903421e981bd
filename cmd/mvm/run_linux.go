package main

import (
	"context"
	"os"

	"github.com/auser/mvm/internal/cli"
	"github.com/auser/mvm/internal/limacli"
)

// run executes a command line here or, where asked to, in a Lima VM.
func run(ctx context.Context, args []string) int {
	if args, lima := limacli.Wanted(args, os.Getenv); lima {
		return limacli.Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	}
	return cli.Run(ctx, args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
