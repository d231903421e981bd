// Package cgroup bounds what a VMM may take of the host.
//
// It owns one cgroup for each VMM, on hosts with cgroup v2, with v1, and with
// the hybrid of both, where the controllers are on v1 and the unified
// hierarchy still offers cgroup.kill. It knows nothing of what runs inside.
//
// It is no library's because none fits: opencontainers/cgroups brings D-Bus,
// systemd and logrus (2 MiB of program for each supervisor, containerd/cgroups
// eBPF and protobuf besides), and neither starts a process inside a v1 group
// from its first instruction, nor uses the unified half of a hybrid host.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a group. A zero value sets no bound.
type Limits struct {
	CPUs        int    // this many full CPUs at most, and a weight in proportion
	MemoryBytes uint64 // of everything that is charged to the group; swap is not given
	Pids        int    // processes and threads
}

// Group is one cgroup: a directory in every hierarchy that has one of the
// controllers that it uses. A Group is a name; it may exist or not.
type Group struct {
	host   *Host
	parent string
	id     string
}

// Group names the group id below parent, a group at the root of the host's
// hierarchies.
func (h *Host) Group(parent, id string) (*Group, error) {
	for _, name := range []string{parent, id} {
		if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\n") {
			return nil, fmt.Errorf("%q is no name of a cgroup", name)
		}
	}
	return &Group{h, parent, id}, nil
}

// Create makes the group where it is not there yet, and sets its limits.
func (h *Host) Create(parent, id string, l Limits) (*Group, error) {
	g, err := h.Group(parent, id)
	if err != nil {
		return nil, err
	}
	if err := h.require("cpu", "memory", "pids"); err != nil {
		return nil, err
	}
	if err := g.make(); err != nil {
		return nil, fmt.Errorf("cannot create cgroup %s/%s: %w", parent, id, err)
	}
	if err := g.set(l); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot limit cgroup %s/%s: %w", parent, id, err), g.rmdir())
	}
	return g, nil
}

// make creates the directories. A concurrent Remove of the parent's last
// group takes the parent away, too; then it is made again.
func (g *Group) make() error {
	for _, root := range g.host.mounts() {
		for try := 0; ; try++ {
			err := g.makeIn(root)
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrNotExist) || try == 10 {
				return err
			}
		}
	}
	return nil
}

func (g *Group) makeIn(root string) error {
	parent := filepath.Join(root, g.parent)
	if err := mkdir(parent); err != nil {
		return err
	}
	if root == g.host.unified {
		for _, dir := range []string{root, parent} {
			if err := g.host.delegate(dir); err != nil {
				return err
			}
		}
	}
	return mkdir(filepath.Join(parent, g.id))
}

func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// dirs are the group's directories.
func (g *Group) dirs() []string {
	var dirs []string
	for _, root := range g.host.mounts() {
		dirs = append(dirs, filepath.Join(root, g.parent, g.id))
	}
	return dirs
}

// file is the path of a controller's file in the group, or "" where the host
// lacks the controller. v1 or v2 names it, depending on where that is.
func (g *Group) file(controller, v1, v2 string) string {
	root, isV1 := g.host.root(controller)
	name := v2
	if isV1 {
		name = v1
	}
	if root == "" || name == "" {
		return ""
	}
	return filepath.Join(root, g.parent, g.id, name)
}

// Add moves a running process into the group.
func (g *Group) Add(pid int) error {
	for _, dir := range g.dirs() {
		if err := write(filepath.Join(dir, "cgroup.procs"), fmt.Sprint(pid)); err != nil {
			return fmt.Errorf("cannot move process %d into its cgroup: %w", pid, err)
		}
	}
	return nil
}

// Place runs start such that a process which it starts with attr is in the
// group before its first instruction. The calling goroutine must be locked to
// its thread: in v1 hierarchies the thread itself goes in, because a child
// begins where the thread is that forks it, and comes back out.
func (g *Group) Place(attr *syscall.SysProcAttr, start func() error) (err error) {
	if g.host.unified != "" {
		dir, err := unix.Open(filepath.Join(g.host.unified, g.parent, g.id), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cannot open the cgroup: %w", err)
		}
		defer unix.Close(dir)
		attr.UseCgroupFD, attr.CgroupFD = true, dir
	}
	for _, root := range g.host.v1Mounts() {
		home, err := g.host.homeOfThread(root)
		if err != nil {
			return fmt.Errorf("cannot find the caller's cgroup: %w", err)
		}
		if err := write(filepath.Join(root, g.parent, g.id, "tasks"), "0"); err != nil {
			return fmt.Errorf("cannot enter the cgroup: %w", err)
		}
		defer func() {
			if back := write(filepath.Join(home, "tasks"), "0"); back != nil {
				err = errors.Join(err, fmt.Errorf("cannot leave the cgroup: %w", back))
			}
		}()
	}
	return start()
}

// Kill ends every process of the group. It does not wait for that, and a group
// that is not there is none that has to be killed.
func (g *Group) Kill() error {
	if root := g.host.unified; root != "" {
		// One act of the kernel's that no fork outruns. Linux before 5.14
		// lacks it, so what is listed is killed one by one, too.
		if err := writeIfThere(filepath.Join(root, g.parent, g.id, "cgroup.kill"), "1"); err != nil {
			return fmt.Errorf("cannot kill the cgroup's processes: %w", err)
		}
	}
	pids, err := g.Procs()
	for _, pid := range pids {
		if pid == os.Getpid() {
			continue // its thread is on the way through, see Place
		}
		if kill := unix.Kill(pid, unix.SIGKILL); kill != nil && kill != unix.ESRCH {
			err = errors.Join(err, fmt.Errorf("cannot kill process %d: %w", pid, kill))
		}
	}
	return err
}

// Procs are the group's processes, as far as the caller's PID namespace has
// them.
func (g *Group) Procs() ([]int, error) {
	var all []int
	for _, dir := range g.dirs() {
		pids, err := readPids(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return nil, fmt.Errorf("cannot list the cgroup's processes: %w", err)
		}
		all = append(all, pids...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Remove ends what still runs in the group and removes it. It is no error if
// there is no such group.
func (g *Group) Remove(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := g.rmdir()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("cannot remove cgroup %s/%s: %w", g.parent, g.id, err)
		}
		if kill := g.Kill(); kill != nil {
			err = errors.Join(err, kill)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot remove cgroup %s/%s: %w", g.parent, g.id, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// rmdir removes the directories, and the parent's where this was the last.
func (g *Group) rmdir() error {
	for _, dir := range g.dirs() {
		if err := removeTree(dir); err != nil {
			return err
		}
		err := unix.Rmdir(filepath.Dir(dir))
		if err != nil && err != unix.EBUSY && err != unix.ENOTEMPTY && err != unix.ENOENT {
			return err
		}
	}
	return nil
}

// removeTree removes a cgroup and those below it: only directories can be
// removed there, and only empty ones.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

// List names the groups below parent, in whichever hierarchy they are left.
func (h *Host) List(parent string) ([]string, error) {
	var ids []string
	for _, root := range h.mounts() {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot list cgroups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() {
				ids = append(ids, e.Name())
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
