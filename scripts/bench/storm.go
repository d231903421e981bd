package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// crowd is many guests of one kind, and how long it took all of them at once.
type crowd struct {
	guests []guest
	boots  int // of them at once; 0: each sees to that itself
	took   results
}

// roomFor is how many guests the host's free memory suffices for: each takes its
// own and as much again for the VMM's code and what it translates.
func roomFor() int {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 1
	}
	kib, err := fieldOf(string(data), "MemAvailable")
	if err != nil {
		return 1
	}
	return max(1, int(kib/1024)/(2*guestMiB))
}

// stormPart starts, stops and removes many guests at once: bare ones, then
// mvm's. At 1, at 10 and at all of these it looks at what they take.
func (b *bench) stormPart(ctx context.Context) (err error) {
	clean, err := b.leftovers()
	if err != nil {
		return err
	}
	defer b.removeByHand(&err)
	bares, tenants := crowd{boots: runtime.NumCPU()}, crowd{} // as mvm's take turns
	for i := range b.storm {
		g, err := b.newBare(ctx)
		if err != nil {
			return err
		}
		t, err := b.tenant(ctx, fmt.Sprintf("storm-%02d", i))
		if err != nil {
			return err
		}
		bares.guests, tenants.guests = append(bares.guests, g), append(tenants.guests, t)
	}
	var density density
	look := func(c *crowd, name string) error { return density.look(ctx, b, name, c.guests) }
	for _, few := range []int{1, 10} {
		c := crowd{guests: tenants.guests[:min(few, b.storm)]}
		err := errors.Join(c.start(ctx), look(&c, fmt.Sprint(len(c.guests))), c.do(ctx, "kill", guest.kill))
		if err != nil {
			return err
		}
		if few == 1 {
			b.estimate(c.took.of("start").median())
		}
	}
	for _, c := range []struct {
		*crowd
		name string
	}{{&bares, fmt.Sprintf("%d bare", b.storm)}, {&tenants, fmt.Sprint(b.storm)}} {
		if err := errors.Join(c.start(ctx), look(c.crowd, c.name)); err != nil {
			return err
		}
		if err := errors.Join(c.do(ctx, "stop", guest.stop), c.do(ctx, "remove", guest.remove)); err != nil {
			return err
		}
	}
	if left, err := b.leftovers(); err != nil || left != clean {
		return errors.Join(err, fmt.Errorf("something is left: %s", left))
	}
	b.printStorm(bares.took, tenants.took)
	fmt.Printf("\nWhat each takes beside 1, 10 and all of them, while nothing happens (medians):\n\n")
	density.print()
	return nil
}

// estimate tells how long the rest may take where one start takes ms: guests of
// both kinds boot, as many at once as there are CPUs, and take about half as
// long to stop.
func (b *bench) estimate(ms float64) {
	boot := time.Duration(ms) * time.Millisecond
	rest := boot*time.Duration(3*b.storm)/time.Duration(runtime.NumCPU()) + 4*(settle+window)
	fmt.Fprintf(os.Stderr, "storm: %d guests of each kind may take %s\n", b.storm, rest.Round(10*time.Second))
}

// start starts all of them.
func (c *crowd) start(ctx context.Context) error {
	if c.boots == 0 {
		return c.do(ctx, "start", guest.start)
	}
	places := make(chan bool, c.boots)
	return c.do(ctx, "start", func(g guest, ctx context.Context) error {
		places <- true
		defer func() { <-places }()
		return g.start(ctx)
	})
}

// do does the same with all of them side by side, and fails if one fails.
func (c *crowd) do(ctx context.Context, name string, act func(guest, context.Context) error) error {
	began := time.Now()
	errs := make([]error, len(c.guests))
	var all sync.WaitGroup
	for i, g := range c.guests {
		all.Go(func() { errs[i] = act(g, ctx) })
	}
	all.Wait()
	took := time.Since(began)
	fmt.Fprintf(os.Stderr, "storm: %s of %d took %s\n", name, len(c.guests), took.Round(100*time.Millisecond))
	c.took.add(name, took)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (b *bench) printStorm(bare, mvm results) {
	fmt.Printf("%d guests of %d MiB. None failed, nothing was left.\n\n", b.storm, guestMiB)
	rows := [][]string{{"seconds for all", "bare QEMU", "mvm", "ratio"}}
	var sumBare, sumMVM float64
	row := func(name string, bare, mvm float64) {
		rows = append(rows, []string{name, fmt.Sprintf("%.1f", bare), fmt.Sprintf("%.1f", mvm), fmt.Sprintf("%.2f", mvm/bare)})
	}
	for _, act := range bare.names {
		ours, theirs := mvm.of(act).median()/1000, bare.of(act).median()/1000
		sumBare, sumMVM = sumBare+theirs, sumMVM+ours
		row(act, theirs, ours)
	}
	row("in all", sumBare, sumMVM)
	printTable(rows...)
}

// leftovers are what mvm has on this host.
func (h *host) leftovers() (string, error) {
	out, err := exec.Command("scripts/leftovers", h.root).CombinedOutput()
	var some *exec.ExitError
	if errors.As(err, &some) {
		err = nil
	}
	return string(out), err
}
