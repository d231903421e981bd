package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// contestant is one way to have the guest.
type contestant struct {
	name        string
	start, stop func(context.Context) error
	starts      series
	stops       series
}

func (b *bench) mvmContestant(name, program string) *contestant {
	return &contestant{
		name:  name,
		start: func(ctx context.Context) error { _, err := b.with(ctx, program, "tenant", "run", first); return err },
		stop:  func(ctx context.Context) error { _, err := b.with(ctx, program, "tenant", "stop", first); return err },
	}
}

// startPart measures start and stop of each contestant in turn.
func (b *bench) startPart(ctx context.Context) error {
	if _, err := b.do(ctx, "tenant", "run", first); err != nil { // warms the caches, too
		return err
	}
	vm, err := b.newBare(ctx)
	if err != nil {
		return err
	}
	if _, err := b.do(ctx, "tenant", "stop", first); err != nil {
		return err
	}
	bare := &contestant{name: "bare QEMU", start: vm.start, stop: vm.stop}
	all := []*contestant{bare, b.mvmContestant("mvm", b.mvm)}
	if b.base != "" {
		all = append(all, b.mvmContestant("mvm of the base", b.base))
	}
	steps := newSteps()
	for range b.runs {
		for _, c := range all {
			if err := c.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		if err := steps.measure(ctx, b); err != nil {
			return err
		}
	}
	rows := [][]string{rowHead}
	for _, c := range all {
		rows = append(rows, c.starts.row("start: "+c.name, "ms", bare.starts))
	}
	for _, c := range all {
		rows = append(rows, c.stops.row("stop: "+c.name, "ms", bare.stops))
	}
	printTable(rows...)
	fmt.Println()
	steps.print()
	return nil
}

func (c *contestant) measure(ctx context.Context) error {
	began := time.Now()
	if err := c.start(ctx); err != nil {
		return err
	}
	c.starts.add(time.Since(began))
	began = time.Now()
	if err := c.stop(ctx); err != nil {
		return err
	}
	c.stops.add(time.Since(began))
	return nil
}

// steps are the steps of mvm tenant run, from its trace.
type steps struct {
	order []string
	took  map[string]*series
}

func newSteps() *steps { return &steps{took: map[string]*series{}} }

// ownPart is what passes before mvm leaves the rest to the guest.
const ownPart = "mvm's own part"

func (s *steps) measure(ctx context.Context, b *bench) error {
	file := filepath.Join(b.root, "trace.json")
	defer os.Remove(file)
	began := time.Now()
	if _, err := b.do(ctx, "tenant", "run", first, "--trace", file); err != nil {
		return err
	}
	whole := time.Since(began)
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc struct {
		Events []struct {
			Name  string  `json:"name"`
			Phase string  `json:"ph"`
			Dur   float64 `json:"dur"`
		} `json:"traceEvents"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return err
	}
	for _, e := range doc.Events {
		if e.Phase != "X" {
			continue
		}
		took := time.Duration(e.Dur * float64(time.Microsecond))
		s.add(e.Name, took)
		if e.Name == "ssh answers" {
			s.add(ownPart, whole-took)
		}
	}
	_, err = b.do(ctx, "tenant", "stop", first, "--force")
	return err
}

func (s *steps) add(name string, took time.Duration) {
	if s.took[name] == nil {
		s.took[name] = &series{}
		s.order = append(s.order, name)
	}
	s.took[name].add(took)
}

func (s *steps) print() {
	rows := [][]string{rowHead}
	for _, name := range s.order {
		rows = append(rows, s.took[name].row(name, "ms", nil))
	}
	printTable(rows...)
}
