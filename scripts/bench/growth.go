package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// growth is what one thing took beside so many tenants on disk.
type growth struct {
	name      string
	do        func(context.Context) (processor time.Duration, err error)
	wall, cpu bySize
}

// bySize are figures of one thing beside so many tenants.
type bySize map[int]series

func (s bySize) add(size int, d time.Duration) {
	took := s[size]
	took.add(d)
	s[size] = took
}

var sizes = []int{10, 100, 1000, 10_000}

// growthPart measures commands while more and more tenants are on disk, all
// sizes in turn. Those were built, ran and were stopped; only their files are
// simulated.
func (b *bench) growthPart(ctx context.Context) error {
	sim, err := b.simulate(sizes[len(sizes)-1])
	if err != nil {
		return err
	}
	trace := filepath.Join(b.root, "run.trace")
	steps := map[int]*results{}
	run := &growth{name: "run --no-wait", do: b.mvmDo("tenant", "run", first, "--no-wait", "--trace", trace)}
	list := []*growth{
		{name: "list", do: b.mvmDo("tenant", "list")},
		{name: "the same files, read bare", do: func(context.Context) (time.Duration, error) { return b.readBare() }},
		{name: "list --json", do: b.mvmDo("tenant", "list", "--json")},
		{name: "show", do: b.mvmDo("tenant", "show", first)},
		{name: "create", do: b.mvmDo(createArgs("grown")...)},
		{name: "destroy", do: b.mvmDo("tenant", "destroy", "grown", "--wipe-volumes", "--yes")},
		run,
		{name: "firewall: close", do: b.mvmDo("tenant", "set", first, "--egress", "none")},
		{name: "firewall: open", do: b.mvmDo("tenant", "set", first, "--egress", "open")},
		{name: "reconcile, no change", do: b.mvmDo("reconcile")},
		{name: "stop --force", do: b.mvmDo("tenant", "stop", first, "--force")},
		{name: "gc, nothing to do", do: b.mvmDo("gc")},
	}
	for _, g := range list {
		g.wall, g.cpu = bySize{}, bySize{}
	}
	for _, size := range sizes {
		steps[size] = &results{}
	}
	for range max(3, b.runs/2) {
		for _, size := range sizes {
			if err := sim.show(size); err != nil {
				return err
			}
			for _, g := range list {
				began := time.Now()
				cpu, err := g.do(ctx)
				if err != nil {
					return fmt.Errorf("beside %d: %w", size, err)
				}
				took := time.Since(began)
				g.wall.add(size, took)
				g.cpu.add(size, cpu)
				if g == run {
					if err := readTrace(trace, took, steps[size]); err != nil {
						return err
					}
				}
			}
		}
	}
	wall, cpu := growthTable("median, ms of wall time"), growthTable("median, ms of processor time")
	for _, g := range list {
		wall.add(g.name, g.wall)
		cpu.add(g.name, g.cpu)
	}
	ofRun := growthTable("median, ms of wall time")
	for _, name := range steps[sizes[0]].names {
		took := bySize{}
		for _, size := range sizes {
			took[size] = steps[size].of(name)
		}
		ofRun.add(name, took)
	}
	printTable(wall...)
	fmt.Print("\nOther work on the machine changes the times, but hardly what processors spend:\n\n")
	printTable(cpu...)
	fmt.Print("\nThe steps of run --no-wait:\n\n")
	printTable(ofRun...)
	return b.removeSimulated()
}

// growing is a table of what things take beside ever more tenants.
type growing [][]string

func growthTable(head string) growing {
	row := []string{head}
	for _, size := range sizes {
		row = append(row, fmt.Sprint(size))
	}
	return growing{append(row, "ratio of last to first")}
}

func (g *growing) add(name string, took bySize) {
	row := []string{name}
	for _, size := range sizes {
		row = append(row, fmt.Sprintf("%.1f", took[size].median()))
	}
	ratio := ""
	if least := took[sizes[0]].median(); least > 0 {
		ratio = fmt.Sprintf("%.2f", took[sizes[len(sizes)-1]].median()/least)
	}
	*g = append(*g, append(row, ratio))
}

// mvmDo runs mvm and says what it and its children spent; the supervisor and
// its VMM, which go on, not included.
func (b *bench) mvmDo(args ...string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		var stderr strings.Builder
		cmd := exec.CommandContext(ctx, b.mvm, append([]string{"--root", b.root}, args...)...)
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("mvm %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
	}
}

// readBare is the least that a list takes: the reading of every spec and state
// and a look at every data volume, on all processors.
func (b *bench) readBare() (time.Duration, error) {
	before, err := spent()
	if err != nil {
		return 0, err
	}
	names, err := b.store.Folders()
	if err != nil {
		return 0, err
	}
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			buf := make([]byte, 4096)
			for i := next.Add(1); i <= int64(len(names)); i = next.Add(1) {
				t := b.store.Tenant(names[i-1])
				for _, path := range []string{t.SpecFile(), t.StateFile()} {
					fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
					if err != nil {
						failed.Add(1)
						continue
					}
					if _, err := unix.Read(fd, buf); err != nil {
						failed.Add(1)
					}
					unix.Close(fd)
				}
				if _, err := os.Stat(t.DataVolume()); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	workers.Wait()
	after, err := spent()
	if n := failed.Load(); n > 0 {
		return 0, fmt.Errorf("cannot read %d files", n)
	}
	return after - before, err
}

// spent is this process's own processor time.
func spent() (time.Duration, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now)
	return time.Duration(now.Nano()), err
}
