package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	cpuPeriod   = 100_000 // microseconds
	unlimitedV1 = 1 << 62 // v1 shows "no limit" as a number above this
)

// set writes the limits. What a host may lack (swap accounting, I/O weights)
// is set where it is there.
func (g *Group) set(l Limits) error {
	if l.CPUs > 0 {
		if err := g.setCPU(l.CPUs); err != nil {
			return err
		}
	}
	if l.MemoryBytes > 0 {
		if err := g.setMemory(l.MemoryBytes); err != nil {
			return err
		}
	}
	if l.Pids > 0 {
		if err := write(g.file("pids", "pids.max", "pids.max"), strconv.Itoa(l.Pids)); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) setCPU(cpus int) error {
	quota := cpus * cpuPeriod
	if _, v1 := g.host.root("cpu"); v1 {
		for _, s := range [][2]string{
			{"cpu.cfs_period_us", strconv.Itoa(cpuPeriod)},
			{"cpu.cfs_quota_us", strconv.Itoa(quota)},
			{"cpu.shares", strconv.Itoa(min(1024*cpus, 262144))},
		} {
			if err := write(g.file("cpu", s[0], ""), s[1]); err != nil {
				return err
			}
		}
	} else {
		if err := write(g.file("cpu", "", "cpu.max"), fmt.Sprintf("%d %d", quota, cpuPeriod)); err != nil {
			return err
		}
		if err := write(g.file("cpu", "", "cpu.weight"), strconv.Itoa(min(100*cpus, 10000))); err != nil {
			return err
		}
	}
	weight := strconv.Itoa(min(100*cpus, 1000))
	for _, file := range []string{
		g.file("io", "", "io.weight"), g.file("io", "", "io.bfq.weight"),
		g.file("io", "blkio.bfq.weight", ""), g.file("io", "blkio.weight", ""),
	} {
		if err := writeIfThere(file, weight); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) setMemory(bytes uint64) error {
	value := strconv.FormatUint(bytes, 10)
	if _, v1 := g.host.root("memory"); v1 {
		limit, withSwap := g.file("memory", "memory.limit_in_bytes", ""), g.file("memory", "memory.memsw.limit_in_bytes", "")
		// The bound with swap may never be the lower one: going up it comes
		// first, going down last.
		if err := write(limit, value); err != nil {
			if err := errors.Join(writeIfThere(withSwap, value), write(limit, value)); err != nil {
				return err
			}
		}
		return writeIfThere(withSwap, value)
	}
	if err := write(g.file("memory", "", "memory.max"), value); err != nil {
		return err
	}
	if err := writeIfThere(g.file("memory", "", "memory.swap.max"), "0"); err != nil {
		return err
	}
	// A VMM that lost one thread to the OOM killer is of no use.
	return writeIfThere(g.file("memory", "", "memory.oom.group"), "1")
}

func writeIfThere(file, value string) error {
	if file == "" {
		return nil
	}
	if err := write(file, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Stats are what the group has used.
type Stats struct {
	CPU         time.Duration
	MemoryBytes uint64
	MemoryPeak  uint64 // 0 where the kernel does not say
	OOMKills    uint64
	Pids        uint64
}

// Stats reads what the group has used so far.
func (g *Group) Stats() (Stats, error) {
	var s Stats
	var err error
	if _, v1 := g.host.root("cpu"); v1 {
		var nanos uint64
		nanos, err = readNumber(g.file("cpuacct", "cpuacct.usage", ""))
		s.CPU = time.Duration(nanos)
	} else {
		var micros uint64
		micros, err = readKey(g.file("cpu", "", "cpu.stat"), "usage_usec")
		s.CPU = time.Duration(micros) * time.Microsecond
	}
	if err != nil {
		return s, err
	}
	if s.MemoryBytes, err = readNumber(g.file("memory", "memory.usage_in_bytes", "memory.current")); err != nil {
		return s, err
	}
	if s.MemoryPeak, err = readNumber(g.file("memory", "memory.max_usage_in_bytes", "memory.peak")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if s.OOMKills, err = readKey(g.file("memory", "memory.oom_control", "memory.events"), "oom_kill"); err != nil {
		return s, err
	}
	s.Pids, err = readNumber(g.file("pids", "pids.current", "pids.current"))
	return s, err
}

// noLimit is how readNumber returns "max" and -1.
const noLimit = 1<<64 - 1

func readNumber(file string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(data))
	if text == "max" || text == "-1" {
		return noLimit, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// readKey reads one line of a file of "key value" lines.
func readKey(file, key string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, key)
}
