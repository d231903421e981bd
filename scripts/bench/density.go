package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// window is how long nothing happens while wake-ups are counted, and settle how
// long before that a guest that has just booted may have its last things to do.
const (
	window = 10 * time.Second
	settle = 5 * time.Second
)

// density is what guests take while nothing happens: a column of the table for
// each number of them.
type density struct {
	heads   []string
	columns []map[string]string
}

// figures of the table, in this order.
var densityRows = []string{
	supervisorMemory, supervisorFDs, supervisorThreads, supervisorWakes, supervisorCPU,
	vmmMemory, vmmWakes, disk, rootCopies, rootCached,
}

const (
	supervisorMemory  = "supervisor's memory (PSS), KiB"
	supervisorFDs     = "supervisor's descriptors"
	supervisorThreads = "supervisor's threads"
	supervisorWakes   = "supervisor's wake-ups a second"
	supervisorCPU     = "supervisor's CPU time, µs a second"
	vmmMemory         = "VMM's memory (PSS), KiB"
	vmmWakes          = "VMM's wake-ups a second"
	disk              = "disk, KiB"
	rootCopies        = "files that are the root disks of all"
	rootCached        = "page cache of the root disk of all, KiB"
)

// look measures running guests and adds a column.
func (d *density) look(ctx context.Context, b *bench, head string, guests []guest) error {
	var supervisors, vmms []int
	values := map[string]series{}
	add := func(name string, v float64) { values[name] = append(values[name], v) }
	for _, g := range guests {
		switch g := g.(type) {
		case *bare:
			vmms = append(vmms, g.cmd.Process.Pid)
		case *tenantGuest:
			s, err := b.state(ctx, g.id)
			if err != nil {
				return err
			}
			supervisors, vmms = append(supervisors, s.SupervisorPID), append(vmms, s.FirecrackerPID)
			bytes, err := allocated(b.store.Tenant(g.id).Dir)
			if err != nil {
				return err
			}
			add(disk, float64(bytes)/1024)
		}
	}
	time.Sleep(settle)
	before, err := activities(supervisors, vmms)
	if err != nil {
		return err
	}
	time.Sleep(window) // the measurement itself
	after, err := activities(supervisors, vmms)
	if err != nil {
		return err
	}
	for i, pid := range append(supervisors, vmms...) {
		memory, wakes := vmmMemory, vmmWakes
		if i < len(supervisors) {
			memory, wakes = supervisorMemory, supervisorWakes
			add(supervisorCPU, (after[i].ns-before[i].ns)/1000/window.Seconds())
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if err != nil {
				return err
			}
			add(supervisorFDs, float64(len(fds)))
			threads, err := procField(pid, "status", "Threads")
			if err != nil {
				return err
			}
			add(supervisorThreads, threads)
		}
		add(wakes, (after[i].wakes-before[i].wakes)/window.Seconds())
		pss, err := procField(pid, "smaps_rollup", "Pss")
		if err != nil {
			return err
		}
		add(memory, pss)
	}
	column := map[string]string{}
	for name, s := range values {
		column[name] = fmt.Sprintf("%.1f", s.median())
	}
	if err := rootDisks(ctx, vmms, column); err != nil {
		return err
	}
	d.heads, d.columns = append(d.heads, head), append(d.columns, column)
	return nil
}

func (d *density) print() {
	rows := [][]string{append([]string{"of each"}, d.heads...)}
	for _, name := range densityRows {
		row := []string{name}
		for _, column := range d.columns {
			row = append(row, column[name])
		}
		rows = append(rows, row)
	}
	printTable(rows...)
}

// rootDisks finds how many files the VMMs have as their root disks, and what
// the page cache holds of these.
func rootDisks(ctx context.Context, vmms []int, column map[string]string) error {
	files := map[[2]uint64]string{}
	for _, pid := range vmms {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			return err
		}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err != nil || filepath.Base(to) != "rootfs.ext4" {
				continue // closed by now, or another file
			}
			var st syscall.Stat_t
			if err := syscall.Stat(fd, &st); err != nil {
				return err
			}
			files[[2]uint64{st.Dev, st.Ino}] = fd
		}
	}
	var cached float64
	for _, fd := range files {
		out, err := exec.CommandContext(ctx, "fincore", "--bytes", "--noheadings", "--output", "RES", fd).Output()
		if err != nil {
			return fmt.Errorf("cannot ask for the page cache: %w", err)
		}
		var bytes float64
		if _, err := fmt.Sscan(string(out), &bytes); err != nil {
			return err
		}
		cached += bytes
	}
	column[rootCopies], column[rootCached] = fmt.Sprint(len(files)), fmt.Sprintf("%.0f", cached/1024)
	return nil
}

// allocated is what the files below dir take of the disk, in bytes.
func allocated(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		bytes += st.Blocks * 512
		return nil
	})
	return bytes, err
}

// activity is what a process did so far.
type activity struct{ wakes, ns float64 }

// activities sums over the threads of each process how often they began to wait
// for something and how long they ran.
func activities(lists ...[]int) (all []activity, err error) {
	for _, pids := range lists {
		for _, pid := range pids {
			threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
			if err != nil {
				return nil, err
			}
			var sum activity
			for _, t := range threads {
				status, err1 := os.ReadFile(filepath.Join(t, "status"))
				schedule, err2 := os.ReadFile(filepath.Join(t, "schedstat"))
				if err1 != nil || err2 != nil {
					continue // the thread ended
				}
				wakes, err := fieldOf(string(status), "voluntary_ctxt_switches")
				if err != nil {
					return nil, err
				}
				var ns float64
				if _, err := fmt.Sscan(string(schedule), &ns); err != nil {
					return nil, err
				}
				sum.wakes, sum.ns = sum.wakes+wakes, sum.ns+ns
			}
			all = append(all, sum)
		}
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
