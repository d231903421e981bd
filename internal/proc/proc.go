// Package proc tells processes apart. A pid alone may belong to another
// process by now; a pid with its start time does not.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ID is one process of this boot.
type ID struct {
	PID   int    // in the namespace that /proc shows
	Start uint64 // clock ticks after boot
}

// Self is this process, by its pid on the host: a supervisor, which is 1 in
// its own PID namespace, sees the host's /proc.
func Self() (ID, error) {
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return ID{}, fmt.Errorf("cannot find out this process's pid: %w", err)
	}
	var pid int
	if _, err := fmt.Sscanf(link, "%d", &pid); err != nil {
		return ID{}, fmt.Errorf("cannot find out this process's pid from %q: %w", link, err)
	}
	return Find(pid)
}

// Find is the process that has this pid now.
func Find(pid int) (ID, error) {
	_, start, err := stat(pid)
	if err != nil {
		return ID{}, fmt.Errorf("cannot look at process %d: %w", pid, err)
	}
	return ID{PID: pid, Start: start}, nil
}

// Alive says whether the process still runs. A zombie does not.
func (id ID) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	state, start, err := stat(id.PID)
	return err == nil && start == id.Start && state != 'Z' && state != 'X'
}

// Busy says whether one of the process's threads runs, or would if it had a
// processor, or waits for a disk.
func (id ID) Busy() (bool, error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", id.PID))
	if err != nil {
		return false, fmt.Errorf("cannot look at process %d: %w", id.PID, err)
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return false, fmt.Errorf("cannot look at process %d: %w", id.PID, err)
		}
		state, _, err := stat(tid)
		if err == nil && (state == 'R' || state == 'D') { // else it has ended
			return true, nil
		}
	}
	return false, nil
}

// stat reads the state and start time of a process or thread: fields 3 and 22
// of /proc/<pid>/stat, see proc(5).
func stat(pid int) (state byte, start uint64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The command in parentheses may itself hold spaces and parentheses.
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, 0, fmt.Errorf("cannot understand /proc/%d/stat", pid)
	}
	_, err = fmt.Sscan(fields[19], &start)
	return fields[0][0], start, err
}

// BootID changes with every boot of the host.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// Kill ends the process with SIGKILL. That it is gone already is fine.
func (id ID) Kill() error {
	p, err := os.FindProcess(id.PID) // holds the process itself, not its number
	if err != nil {
		return fmt.Errorf("cannot kill process %d: %w", id.PID, err)
	}
	defer p.Release()
	if !id.Alive() {
		return nil
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot kill process %d: %w", id.PID, err)
	}
	return nil
}
