package cgroup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentName keeps the tests of two checkouts on one machine apart.
func parentName() string { return fmt.Sprintf("mvm-test-%d", os.Getpid()) }

func newGroup(t *testing.T, id string, l Limits) *Group {
	t.Helper()
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Create(parentName(), id, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := g.Remove(ctx); err != nil {
			t.Error(err)
		}
	})
	return g
}

// spawn starts argv inside g, as a driver does.
func spawn(t *testing.T, g *Group, argv ...string) *os.Process {
	t.Helper()
	type result struct {
		p   *os.Process
		err error
	}
	started := make(chan result)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		attr := &syscall.SysProcAttr{}
		var p *os.Process
		before, _ := os.ReadFile("/proc/thread-self/cgroup")
		err := g.Place(attr, func() (err error) {
			p, err = os.StartProcess(argv[0], argv, &os.ProcAttr{Sys: attr})
			return err
		})
		if after, _ := os.ReadFile("/proc/thread-self/cgroup"); err == nil && string(before) != string(after) {
			err = fmt.Errorf("the thread came back elsewhere:\n%s\n%s", before, after)
		}
		started <- result{p, err}
	}()
	r := <-started
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.p
}

func TestLimitsAreReadBackFromTheKernel(t *testing.T) {
	want := Limits{CPUs: 2, MemoryBytes: 128 << 20, Pids: 33}
	g := newGroup(t, "acme", want)
	if got, err := g.Limits(); err != nil || got != want {
		t.Errorf("Limits = %+v, %v, want %+v", got, err, want)
	}
	// Up and down again, on the group that is there.
	for _, want := range []Limits{{CPUs: 4, MemoryBytes: 512 << 20, Pids: 50}, {CPUs: 1, MemoryBytes: 64 << 20, Pids: 20}} {
		again, err := g.host.Create(g.parent, g.id, want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Limits(); err != nil || got != want {
			t.Errorf("Limits = %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestAProcessStartsInsideAndDiesWithTheGroup(t *testing.T) {
	g := newGroup(t, "acme", Limits{CPUs: 1, MemoryBytes: 64 << 20, Pids: 20})
	p := spawn(t, g, "/bin/sleep", "60")
	in, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(in), "/"+parentName()+"/acme"), len(g.dirs()); got < want {
		t.Errorf("it is in %d of %d hierarchies:\n%s", got, want, in)
	}
	if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{p.Pid}) {
		t.Errorf("Procs = %v, %v, want [%d]", pids, err, p.Pid)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	state, err := p.Wait()
	if err != nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended as %v, %v", state, err)
	}
}

func TestMemoryBeyondTheLimitIsNotGiven(t *testing.T) {
	g := newGroup(t, "greedy", Limits{CPUs: 1, MemoryBytes: 32 << 20, Pids: 20})
	// tail keeps a file without newlines in memory.
	p := spawn(t, g, "/usr/bin/tail", "/dev/zero")
	state, err := p.Wait()
	if err != nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("it ended as %v, %v, want it killed", state, err)
	}
	s, err := g.Stats()
	if err != nil || s.OOMKills == 0 || s.CPU == 0 {
		t.Errorf("Stats = %+v, %v, want an OOM kill", s, err)
	}
}

func TestRemoveEndsWhatRunsAndIsRepeatable(t *testing.T) {
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(t, "stale", Limits{CPUs: 1, Pids: 20})
	p := spawn(t, g, "/bin/sleep", "60")
	go p.Wait()
	if ids, err := h.List(parentName()); err != nil || !slices.Contains(ids, "stale") {
		t.Errorf("List = %v, %v", ids, err)
	}
	for range 2 {
		if err := g.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := h.List(parentName()); err != nil || len(ids) != 0 {
		t.Errorf("List = %v, %v after Remove", ids, err)
	}
	for _, dir := range g.dirs() {
		if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", filepath.Dir(dir), err)
		}
	}
	if err := g.Kill(); err != nil {
		t.Errorf("killing what is gone: %v", err)
	}
}

func TestNamesThatLeaveTheParent(t *testing.T) {
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "..", ".", "a/b", "../x"} {
		if _, err := h.Group("mvm", bad); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
		if _, err := h.Group(bad, "acme"); err == nil {
			t.Errorf("the parent %q is taken", bad)
		}
	}
}

func TestParseMounts(t *testing.T) {
	for name, c := range map[string]struct{ info, mode, memory string }{
		"v2": {"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", "v2", ""},
		"v1": {"33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
			"34 25 0:30 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "v1", "/sys/fs/cgroup/memory"},
		"hybrid": {"34 25 0:30 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n" +
			"27 25 0:28 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n" +
			"short line\n", "hybrid", "/sys/fs/cgroup/memory"},
	} {
		h := parseMounts(c.info)
		if h.Mode() != c.mode || h.v1["memory"].dir != c.memory {
			t.Errorf("%s: mode %s, memory at %q", name, h.Mode(), h.v1["memory"].dir)
		}
	}
}

// TestV2Files shows what is written on a v2 host, on a folder in its place.
func TestV2Files(t *testing.T) {
	root := t.TempDir()
	h := &Host{unified: root}
	files := []string{"cgroup.subtree_control", "cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "io.weight", "cgroup.procs"}
	for _, dir := range []string{root, filepath.Join(root, "mvm"), filepath.Join(root, "mvm", "acme")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpuset cpu io memory pids\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := Limits{CPUs: 3, MemoryBytes: 1 << 30, Pids: 40}
	g, err := h.Create("mvm", "acme", want)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cpu.max": "300000 100000", "cpu.weight": "300", "memory.max": "1073741824", "memory.swap.max": "0",
		"memory.oom.group": "1", "pids.max": "40", "io.weight": "300",
	} {
		if got, _ := os.ReadFile(filepath.Join(root, "mvm", "acme", file)); string(got) != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
	if got, err := g.Limits(); err != nil || got != want {
		t.Errorf("Limits = %+v, %v", got, err)
	}
}

// Limits reads back what the kernel holds the group to.
func (g *Group) Limits() (Limits, error) {
	var l Limits
	if _, v1 := g.host.root("cpu"); v1 {
		quota, err := readNumber(g.file("cpu", "cpu.cfs_quota_us", ""))
		if err != nil {
			return l, err
		}
		if quota != noLimit {
			l.CPUs = int(quota) / cpuPeriod
		}
	} else {
		text, err := os.ReadFile(g.file("cpu", "", "cpu.max"))
		if err != nil {
			return l, err
		}
		var quota, period int
		if n, _ := fmt.Sscan(string(text), &quota, &period); n == 2 && period > 0 {
			l.CPUs = quota / period
		}
	}
	memory, err := readNumber(g.file("memory", "memory.limit_in_bytes", "memory.max"))
	if err != nil {
		return l, err
	}
	if memory < unlimitedV1 {
		l.MemoryBytes = memory
	}
	pids, err := readNumber(g.file("pids", "pids.max", "pids.max"))
	if err == nil && pids != noLimit {
		l.Pids = int(pids)
	}
	return l, err
}
