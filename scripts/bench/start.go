package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// way is one way to have a guest.
type way struct {
	name string
	make func(context.Context) (guest, error)
	took results
}

// acts are what is done with each guest, in this order.
var acts = []struct {
	name string
	do   func(guest, context.Context) error
}{
	{"start, until SSH answers", guest.start},
	{"stop", guest.stop},
	{"start, until SSH answers", guest.start},
	{"kill", guest.kill},
	{"remove", guest.remove},
}

// startPart measures each way to have a guest in turn. Two versions of mvm are
// compared without libvirt.
func (b *bench) startPart(ctx context.Context) (err error) {
	steps := &results{}
	ways := []*way{
		{name: "bare QEMU", make: b.newBare},
		{name: "mvm", make: b.tenants(b.mvm, steps)},
	}
	if b.base != "" {
		ways = append(ways, &way{name: "mvm of the base", make: b.tenants(b.base, nil)})
	} else {
		peer, startErr := newLibvirt(ctx, b.cache)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, peer.close()) }()
		ways = append(ways, &way{name: "libvirt", make: func(ctx context.Context) (guest, error) { return peer.newDomain(ctx, b.host) }})
	}
	defer b.removeByHand(&err) // while the peer still answers
	for run := range b.runs + 1 {
		for _, w := range ways {
			if err := w.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if run == 0 { // it warmed all caches
				w.took, *steps = results{}, results{}
			}
		}
	}
	rows := [][]string{rowHead}
	for _, act := range ways[0].took.names {
		for _, w := range ways {
			rows = append(rows, w.took.of(act).row(act+": "+w.name, "ms", ways[0].took.of(act)))
		}
	}
	printTable(rows...)
	fmt.Printf("\nThe steps of mvm tenant run:\n\n")
	rows = [][]string{rowHead}
	for _, name := range steps.names {
		rows = append(rows, steps.of(name).row(name, "ms", nil))
	}
	printTable(rows...)
	return nil
}

// tenants makes tenants of the given mvm, one after another.
func (b *bench) tenants(program string, steps *results) func(context.Context) (guest, error) {
	return func(ctx context.Context) (guest, error) {
		if b.base != "" { // what is there are the other version's firewall rules
			if _, err := b.with(ctx, program, "reconcile"); err != nil {
				return nil, err
			}
		}
		t, err := b.tenant(ctx, "start")
		t.program, t.steps = program, steps
		return t, err
	}
}

func (w *way) measure(ctx context.Context) error {
	g, err := w.make(ctx)
	if err != nil {
		return err
	}
	for _, act := range acts {
		began := time.Now()
		if err := act.do(g, ctx); err != nil {
			return fmt.Errorf("%s: %w", act.name, err)
		}
		w.took.add(act.name, time.Since(began))
	}
	return nil
}
