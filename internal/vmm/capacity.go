package vmm

import "fmt"

// Demand is what a machine takes of its host.
type Demand struct {
	VCPUs  int
	MemMiB int // with the VMM's overhead
}

// Capacity is what a host has to give.
type Capacity struct {
	CPUs   int
	MemMiB int
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
	}
	if limit := int(float64(host.MemMiB) * policy.MemoryOvercommit); taken.MemMiB+want.MemMiB > limit {
		return &CapacityError{"memory", want.MemMiB, taken.MemMiB, limit, "MiB"}
	}
	if limit := int(float64(host.CPUs) * policy.CPUOvercommit); taken.VCPUs+want.VCPUs > limit {
		return &CapacityError{"CPU", want.VCPUs, taken.VCPUs, limit, "vCPUs"}
	}
	return nil
}
