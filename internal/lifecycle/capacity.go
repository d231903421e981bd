package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
)

// checkCapacity refuses what the host cannot hold beside what runs or is being
// started, the dev microVM included. The caller holds the tenants' host lock.
func (h *Host) checkCapacity(spec tenant.Spec) error {
	taken, err := h.taken(spec.TenantID)
	if err != nil {
		return err
	}
	neighbour, err := h.neighbour()
	if err != nil {
		return err
	}
	if neighbour != nil {
		more, err := neighbour.taken("")
		if err != nil {
			return err
		}
		taken = append(taken, more...)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("cannot tell how much memory the host has: %w", err)
	}
	huge, err := vmm.HugePagesMiB()
	if err != nil {
		return err
	}
	host := vmm.Capacity{CPUs: runtime.NumCPU(), MemMiB: int(uint64(info.Totalram) * uint64(info.Unit) >> 20), HugeMiB: huge}
	policy := vmm.Policy{CPUOvercommit: h.Config.Limits.CPUOvercommit, MemoryOvercommit: h.Config.Limits.MemoryOvercommit}
	if err := vmm.Fits(host, policy, taken, h.demand(spec)); err != nil {
		var full *vmm.CapacityError
		if errors.As(err, &full) && full.What == "2 MiB pages" {
			return &Error{Kind: ErrHost, Msg: err.Error(), Hint: "reserve more with sysctl vm.nr_hugepages, or run it without: " + h.Command("set", spec.TenantID) + " --huge-pages=false"}
		}
		return &Error{Kind: ErrHost, Msg: err.Error(), Hint: "stop other tenants, or raise limits.cpu_overcommit or limits.memory_overcommit in " + h.Store.ConfigFile()}
	}
	return nil
}

// neighbour is the other host on the same hardware: the tenants' for the dev
// microVM, the dev microVM's for the tenants; nil where there is none.
func (h *Host) neighbour() (*Host, error) {
	if h.Parent != nil {
		return h.Parent, nil
	}
	dir := store.DevRoot(h.Store.Root)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	// Its settings are these, but for what is not counted.
	s, err := store.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot count the dev microVM: %w", err)
	}
	return &Host{Store: s, Config: h.Config, Say: h.Say}, nil
}

// taken is what the machines that run or are being started take, but for one.
func (h *Host) taken(but string) ([]vmm.Demand, error) {
	ids, err := h.Store.ActiveIDs()
	if err != nil {
		return nil, err
	}
	var taken []vmm.Demand
	for _, id := range ids {
		s, err := h.Observe(id)
		if err != nil {
			h.Say("  not counted: %v", err)
			continue
		}
		beingStarted := s.State.Wanted && (s.State.Phase == tenant.Created || s.State.Phase == tenant.Stopped)
		if id != but && (live(s.Phase) || s.Running || beingStarted) {
			taken = append(taken, h.demand(s.State.Spec))
		}
	}
	return taken, nil
}

func (h *Host) demand(spec tenant.Spec) vmm.Demand {
	d := vmm.Demand{VCPUs: spec.VCPUs, MemMiB: spec.MemMiB + h.Config.Limits.VMMOverheadMiB}
	if spec.HugePages {
		d.HugeMiB = spec.MemMiB
	}
	return d
}
