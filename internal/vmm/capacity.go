package vmm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Demand is what a machine takes of its host.
type Demand struct {
	VCPUs  int
	MemMiB int // with the VMM's overhead
	// HugeMiB is how much of the memory is of 2 MiB pages. They come from a
	// pool of their own that the host has reserved.
	HugeMiB int
}

// Capacity is what a host has to give.
type Capacity struct {
	CPUs    int
	MemMiB  int
	HugeMiB int
}

// HugePagesMiB is the host's pool of 2 MiB pages; 0 where it has none.
func HugePagesMiB() (int, error) {
	data, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot tell how many huge pages the host has: %w", err)
	}
	pages, err := strconv.Atoi(strings.TrimSpace(string(data)))
	return 2 * pages, err
}

// Policy is how far the machines' demands may add up beyond the host's
// capacity: 1 is not at all.
type Policy struct {
	CPUOvercommit    float64
	MemoryOvercommit float64
}

// CapacityError is a machine that its host cannot hold.
type CapacityError struct {
	What         string // memory or CPUs
	Want         int
	Taken, Limit int
	Unit         string
}

func (e *CapacityError) Error() string {
	return fmt.Sprintf("this host cannot hold the machine: it wants %d %s of %s, %d of %d are taken", e.Want, e.Unit, e.What, e.Taken, e.Limit)
}

// Fits refuses a machine that would make the host give more than its policy
// allows, next to the machines that run or are being started.
func Fits(host Capacity, policy Policy, running []Demand, want Demand) error {
	var taken Demand
	for _, d := range running {
		taken.VCPUs += d.VCPUs
		taken.MemMiB += d.MemMiB
		taken.HugeMiB += d.HugeMiB
	}
	// A VMM that finds the pool empty dies of SIGBUS in the middle of its work.
	if want.HugeMiB > 0 && taken.HugeMiB+want.HugeMiB > host.HugeMiB {
		return &CapacityError{"2 MiB pages", want.HugeMiB, taken.HugeMiB, host.HugeMiB, "MiB"}
	}
	if limit := int(float64(host.MemMiB) * policy.MemoryOvercommit); taken.MemMiB+want.MemMiB > limit {
		return &CapacityError{"memory", want.MemMiB, taken.MemMiB, limit, "MiB"}
	}
	if limit := int(float64(host.CPUs) * policy.CPUOvercommit); taken.VCPUs+want.VCPUs > limit {
		return &CapacityError{"CPU", want.VCPUs, taken.VCPUs, limit, "vCPUs"}
	}
	return nil
}
