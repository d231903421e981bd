package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// stormPart starts, stops and destroys many tenants at once, and the same
// number of bare VMs.
func (b *bench) stormPart(ctx context.Context) error {
	ids, err := b.crowd(ctx, b.storm)
	if err != nil {
		return err
	}
	if _, err := b.do(ctx, "tenant", "run", first); err != nil {
		return err
	}
	var vms []*bare
	for range b.storm {
		vm, err := b.newBare(ctx)
		if err != nil {
			return err
		}
		vms = append(vms, vm)
	}
	if _, err := b.do(ctx, "tenant", "stop", first); err != nil {
		return err
	}
	each := func(verb ...string) func(int) error {
		return func(i int) error {
			_, err := b.do(ctx, append(append([]string{"tenant", verb[0]}, ids[i]), verb[1:]...)...)
			return err
		}
	}
	rows := [][]string{{"", "bare QEMU", "mvm", "ratio"}}
	for _, act := range []struct {
		name      string
		bare, mvm func(int) error
	}{
		{"start", func(i int) error { return vms[i].start(ctx) }, nil},
		{"stop", func(i int) error { return vms[i].stop(ctx) }, nil},
		{"start", nil, each("run")},
		{"stop", nil, each("stop")},
		{"destroy", nil, each("destroy", "--wipe-volumes", "--yes")},
	} {
		do := act.bare
		if do == nil {
			do = act.mvm
		}
		took, err := atOnce(b.storm, do)
		if err != nil {
			return fmt.Errorf("%s: %w", act.name, err)
		}
		if act.bare != nil {
			rows = append(rows, []string{fmt.Sprintf("%s %d", act.name, b.storm), fmt.Sprintf("%.1f", took.Seconds())})
			continue
		}
		rows = b.stormRow(rows, act.name, took)
		if act.name == "start" {
			if err := b.density(ctx, ids); err != nil {
				return err
			}
		}
	}
	printTable(rows...)
	return nil
}

// stormRow puts mvm's seconds beside the bare ones, where there are some.
func (b *bench) stormRow(rows [][]string, act string, took time.Duration) [][]string {
	name, seconds := fmt.Sprintf("%s %d", act, b.storm), fmt.Sprintf("%.1f s", took.Seconds())
	for i, r := range rows {
		if r[0] == name {
			var bare float64
			fmt.Sscan(r[1], &bare)
			rows[i] = []string{name, r[1] + " s", seconds, fmt.Sprintf("%.2f", took.Seconds()/bare)}
			return rows
		}
	}
	return append(rows, []string{name, "", seconds, ""})
}

// crowd makes n tenants.
func (b *bench) crowd(ctx context.Context, n int) ([]string, error) {
	var ids []string
	for i := range n {
		id := fmt.Sprintf("storm-%02d", i)
		if err := b.another(ctx, id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// atOnce does all of it side by side and fails if one fails.
func atOnce(n int, do func(int) error) (time.Duration, error) {
	began := time.Now()
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return time.Since(began), errors.Join(errs...)
}
