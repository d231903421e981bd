package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/cli"
	"github.com/auser/mvm/internal/limacli"
)

// run executes a command line here or, where asked to, in a Lima VM.
func run(ctx context.Context, args []string) int {
	// Secrets pass through here: no core dumps, see vmm.LimitSelf.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}); err != nil {
		fmt.Fprintf(os.Stderr, "mvm: cannot switch core dumps off: %v\n", err)
		return 1
	}
	if args, lima := limacli.Wanted(args, os.Getenv); lima {
		return limacli.Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	}
	return cli.Run(ctx, args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
