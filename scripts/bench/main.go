// Command bench measures mvm beside what it is built on, in one run and in
// turns, and prints medians, spreads and ratios. Absolute times are those of
// the machine that it runs on; nothing is asserted about them.
//
// It is started by make bench, in a network namespace of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// parts are what can be measured, in this order.
var parts = []struct {
	name, title, what string
	do                func(*bench, context.Context) error
}{
	{"start", "One guest", "Start and end of one guest, the ways taking turns.", (*bench).startPart},
	{"io", "Network and disk", "From within one guest, through mvm's isolation and through a TAP without rules.", (*bench).ioPart},
	{"storm", "Many at once", "All are started, stopped and removed side by side: first the bare VMMs, then mvm's tenants.", (*bench).stormPart},
	{"growth", "Many on disk", "Commands beside 10 to 10,000 tenants that were built, ran and were stopped; their files are simulated.", (*bench).growthPart},
	{"build", "Builds", "A build from nothing, after a change, and of nothing new, beside one docker run with nix build and cp in it.", (*bench).buildPart},
}

type bench struct {
	*host
	runs, storm int
	base        string // another mvm to compare with
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	chosen := flag.String("parts", strings.Join(names, ","), "what to measure")
	cache := flag.String("cache", ".cache", "what make prepare fetched")
	mvm := flag.String("mvm", "bin/mvm", "the program to measure")
	b := &bench{}
	flag.StringVar(&b.base, "base", "", "another mvm to measure in turn with it")
	flag.IntVar(&b.runs, "runs", 7, "how often each is measured")
	flag.IntVar(&b.storm, "storm", min(50, roomFor()), "how many tenants start at once")
	flag.Parse()
	list := strings.Split(*chosen, ",")
	for _, name := range list {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no part %q: use %s", name, strings.Join(names, ", "))
		}
	}
	if *cache, err = filepath.Abs(*cache); err != nil {
		return err
	}
	if *mvm, err = filepath.Abs(*mvm); err != nil {
		return err
	}
	if b.host, err = prepare(ctx, *mvm, *cache); err != nil {
		return err
	}
	defer b.cleanUp(&err)
	fmt.Println(machine())
	for _, p := range parts {
		if !slices.Contains(list, p.name) {
			continue
		}
		began := time.Now()
		fmt.Printf("\n## %s\n\n%s\n\n", p.title, p.what)
		if err := p.do(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s took %s\n", p.name, time.Since(began).Round(time.Second))
	}
	return nil
}
