package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// controllers are those that a group uses. The first three are needed, io is
// used where it is there.
var controllers = []string{"cpu", "memory", "pids", "io"}

// v1Names are the controllers' names in v1 hierarchies; cpuacct is one of its
// own there.
var v1Names = map[string]string{"cpu": "cpu", "memory": "memory", "pids": "pids", "io": "blkio", "cpuacct": "cpuacct"}

// Host is where the host's cgroup hierarchies are.
type Host struct {
	unified string             // the mount point of v2, "" without
	v1      map[string]v1Mount // by controller
}

type v1Mount struct {
	dir  string // where it is mounted
	root string // which cgroup is mounted there: / unless in a container
}

// Detect finds the hierarchies.
func Detect() (*Host, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot find the host's cgroups: %w", err)
	}
	h := parseMounts(string(info))
	if h.unified == "" && len(h.v1) == 0 {
		return nil, errors.New("this host has no cgroups mounted")
	}
	return h, nil
}

// parseMounts reads mountinfo (proc_pid_mountinfo(5)).
func parseMounts(info string) *Host {
	h := &Host{v1: map[string]v1Mount{}}
	for line := range strings.Lines(info) {
		mount, super, ok := strings.Cut(strings.TrimSpace(line), " - ")
		place, what := strings.Fields(mount), strings.Fields(super)
		if !ok || len(place) < 5 || len(what) < 3 {
			continue
		}
		switch root, dir := place[3], place[4]; what[0] {
		case "cgroup2":
			if h.unified == "" {
				h.unified = dir
			}
		case "cgroup":
			options := strings.Split(what[2], ",")
			for _, name := range v1Names {
				if _, seen := h.v1[name]; !seen && slices.Contains(options, name) {
					h.v1[name] = v1Mount{dir, root}
				}
			}
		}
	}
	return h
}

// Mode is v2, v1 or hybrid, for people.
func (h *Host) Mode() string {
	switch {
	case len(h.v1) == 0:
		return "v2"
	case h.unified == "":
		return "v1"
	}
	return "hybrid"
}

// root is the mount point of the hierarchy that has the controller, or "".
func (h *Host) root(controller string) (dir string, isV1 bool) {
	if m, ok := h.v1[v1Names[controller]]; ok {
		return m.dir, true
	}
	if h.unified != "" && slices.Contains(h.available(h.unified), controller) {
		return h.unified, false
	}
	return "", false
}

func (h *Host) available(dir string) []string {
	words, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(words))
}

func (h *Host) require(names ...string) error {
	for _, name := range names {
		if dir, _ := h.root(name); dir == "" {
			return fmt.Errorf("cannot limit machines: this host has no %s controller for cgroups (%s)", name, h.Mode())
		}
	}
	return nil
}

// delegate lets the groups below dir use the controllers.
func (h *Host) delegate(dir string) error {
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	for _, name := range controllers {
		if !slices.Contains(h.available(dir), name) || slices.Contains(strings.Fields(string(enabled)), name) {
			continue
		}
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+name); err != nil {
			return fmt.Errorf("cannot enable the %s controller: %w", name, err)
		}
	}
	return nil
}

// mounts are the hierarchies that a group is in.
func (h *Host) mounts() []string {
	dirs := h.v1Mounts()
	if h.unified != "" {
		dirs = append(dirs, h.unified)
	}
	return dirs
}

func (h *Host) v1Mounts() []string {
	var dirs []string
	for _, m := range h.v1 {
		dirs = append(dirs, m.dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs) // cpu and cpuacct may be one
}

// homeOfThread is the directory of the calling thread's cgroup in the v1
// hierarchy mounted at dir.
func (h *Host) homeOfThread(dir string) (string, error) {
	lines, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(lines)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, name := range strings.Split(parts[1], ",") {
			if m, ok := h.v1[name]; ok && m.dir == dir {
				below, err := filepath.Rel(m.root, parts[2])
				if err != nil || below == ".." || strings.HasPrefix(below, "../") {
					below = "." // outside of what this container sees
				}
				return filepath.Join(dir, below), nil
			}
		}
	}
	return "", fmt.Errorf("/proc names no cgroup of this thread below %s", dir)
}

func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // never creates: these are the kernel's files
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func readPids(path string) ([]int, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, word := range strings.Fields(string(data)) {
		var pid int
		if _, err := fmt.Sscan(word, &pid); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
