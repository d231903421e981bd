package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// window is how long nothing happens while wake-ups are counted.
const window = 10 * time.Second

func (b *bench) densityPart(ctx context.Context) error {
	ids, err := b.crowd(ctx, 10)
	if err != nil {
		return err
	}
	defer func() {
		for _, id := range ids {
			b.do(context.WithoutCancel(ctx), "tenant", "destroy", id, "--wipe-volumes", "--yes") // cleanUp reports what is left
		}
	}()
	for _, up := range [][]string{ids[:1], ids} {
		if _, err := atOnce(len(up), func(i int) error { _, err := b.do(ctx, "tenant", "run", up[i]); return err }); err != nil {
			return err
		}
		if err := b.density(ctx, up); err != nil {
			return err
		}
	}
	return nil
}

// density prints what the supervisors of running tenants take.
func (b *bench) density(ctx context.Context, ids []string) error {
	var pids, vmms []int
	for _, id := range ids {
		s, err := b.state(ctx, id)
		if err != nil {
			return err
		}
		pids, vmms = append(pids, s.SupervisorPID), append(vmms, s.FirecrackerPID)
	}
	before, err := switches(pids)
	if err != nil {
		return err
	}
	time.Sleep(window) // the measurement itself
	after, err := switches(pids)
	if err != nil {
		return err
	}
	var pss, vmm, fds, threads, disk, wakes series
	for i, pid := range pids {
		for _, m := range []struct {
			to  *series
			get func() (float64, error)
		}{
			{&pss, func() (float64, error) { return procField(pid, "smaps_rollup", "Pss") }},
			{&vmm, func() (float64, error) { return procField(vmms[i], "smaps_rollup", "Pss") }},
			{&threads, func() (float64, error) { return procField(pid, "status", "Threads") }},
			{&fds, func() (float64, error) {
				list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
				return float64(len(list)), err
			}},
			{&disk, func() (float64, error) { return float64(b.allocated(ids[i])) / 1024, nil }},
		} {
			v, err := m.get()
			if err != nil {
				return err
			}
			*m.to = append(*m.to, v)
		}
		wakes = append(wakes, float64(after[i]-before[i])/window.Seconds())
	}
	fmt.Printf("%d running:\n\n", len(ids))
	printTable(rowHead,
		pss.row("supervisor's memory (PSS)", "KiB", nil), vmm.row("VMM's memory (PSS)", "KiB", nil),
		fds.row("supervisor's descriptors", "", nil), threads.row("supervisor's threads", "", nil),
		disk.row("disk", "KiB", nil), wakes.row("supervisor's wake-ups", "per second", nil))
	fmt.Println()
	return nil
}

// allocated is what the tenant's folder takes of the disk.
func (b *bench) allocated(id string) (bytes int64) {
	filepath.WalkDir(b.store.Tenant(id).Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			bytes += blocks(path)
		}
		return nil
	})
	return bytes
}

// switches is how often the threads of each process gave up or lost the
// processor so far.
func switches(pids []int) ([]int, error) {
	var all []int
	for _, pid := range pids {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return nil, err
		}
		sum := 0
		for _, t := range tasks {
			data, err := os.ReadFile(filepath.Join(t, "status"))
			if err != nil {
				continue // the thread ended
			}
			for _, key := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
				v, err := fieldOf(string(data), key)
				if err != nil {
					return nil, err
				}
				sum += int(v)
			}
		}
		all = append(all, sum)
	}
	return all, nil
}

func procField(pid int, file, key string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	return fieldOf(string(data), key)
}

func fieldOf(text, key string) (v float64, err error) {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == key {
			_, err = fmt.Sscan(value, &v)
			return v, err
		}
	}
	return 0, fmt.Errorf("there is no %s", key)
}
