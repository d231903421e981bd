package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/firecracker/install"
)

// SetupOptions is what setup needs to know.
type SetupOptions struct {
	Tier string // kvm or software; empty: kvm, which must be possible
	// Firecracker is a release to install first: a pinned version, an archive,
	// or a folder. Empty: what is installed already.
	Firecracker string
	SHA256      string // accepts an archive that is not pinned, if this is its checksum
	Unverified  bool   // accepts a folder, whose programs nothing vouches for
	NoJail      *bool  // whether Firecracker runs without its jailer from now on; nil: as before
}

// SetupDone is what setup found and decided.
type SetupDone struct {
	Tier    string
	Reason  string
	VMM     string // name and version
	Already bool   // it was decided so before
	Unit    string // the systemd unit that was installed, where it was not there yet
}

// Setup checks the host and decides the tier. Emulation is never a silent
// fallback: who wants it says so.
func (h *Host) Setup(ctx context.Context, o SetupOptions) (SetupDone, error) {
	usable, why := vmm.ProbeKVM()
	c := h.Config
	switch o.Tier {
	case "", config.TierKVM:
		if !usable {
			return SetupDone{}, &Error{
				Kind: ErrHost,
				Msg:  "this host has no usable hardware virtualisation: " + why,
				Hint: "mvm setup --tier software runs guests by emulation, which is slow and no isolation boundary to rely on",
			}
		}
		c.Tier, c.TierReason = config.TierKVM, why
	case config.TierSoftware:
		c.Tier, c.TierReason = config.TierSoftware, "asked for with --tier software"
		if why != "" {
			c.TierReason += "; " + why
		}
	default:
		return SetupDone{}, &tenant.InputError{Msg: fmt.Sprintf("%q is no tier", o.Tier), Hint: "use kvm or software"}
	}
	if err := h.setUpVMM(ctx, o, &c); err != nil {
		return SetupDone{}, err
	}
	version, err := h.vmmVersion(ctx, c)
	if err != nil {
		return SetupDone{}, err
	}
	done := SetupDone{Tier: c.Tier, Reason: c.TierReason, VMM: version, Already: c.Tier == h.Config.Tier && c.TierReason == h.Config.TierReason && c.VMM == h.Config.VMM}
	installed, err := h.installUnit(ctx)
	if err != nil {
		return done, err
	}
	if installed {
		done.Unit = unitName
	}
	if done.Already && !installed {
		return done, nil
	}
	detail := map[string]any{"tier": c.Tier, "reason": c.TierReason, "vmm": version, "no_jailer": c.VMM.NoJailer, "unit": done.Unit}
	if err := h.record("", "setup", detail, nil); err != nil {
		return done, err
	}
	return done, h.recordFailure("", "setup", detail, h.saveTier(c))
}

func (h *Host) vmmVersion(ctx context.Context, c config.Config) (string, error) {
	driver, err := supervisor.Driver(c)
	if err != nil {
		return "", &Error{Kind: ErrHost, Msg: err.Error(), Hint: vmmHint(c.Tier)}
	}
	version, err := driver.Version(ctx)
	if err != nil {
		return "", &Error{Kind: ErrHost, Msg: err.Error(), Hint: vmmHint(c.Tier)}
	}
	return driver.Name() + " " + version, nil
}

func vmmHint(tier string) string {
	if tier == config.TierSoftware {
		return "install QEMU: apt-get install qemu-system-x86"
	}
	return "mvm setup --firecracker " + install.Pins[0].Version + " installs Firecracker and its jailer; offline, give it the release's archive"
}

// saveTier writes the decision and leaves the rest of the file to its owner.
func (h *Host) saveTier(c config.Config) error {
	data, err := os.ReadFile(h.Store.ConfigFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the settings: %w", err)
	}
	data = config.SetTier(data, c.Tier, c.TierReason)
	if c.VMM != h.Config.VMM {
		data = config.SetVMM(data, c.VMM)
	}
	if kept, err := config.Parse(data); err != nil || kept.Tier != c.Tier || c.VMM != h.Config.VMM && kept.VMM != c.VMM {
		return &Error{
			Kind: ErrState, Msg: "cannot put the decision into " + h.Store.ConfigFile() + " as that is written",
			Hint: "write each table under its own [heading], as docs/state-directory.md has it, and give the command again",
		}
	}
	if err := atomicfile.Write(h.Store.ConfigFile(), data, 0o600); err != nil {
		return err
	}
	h.Config = c
	return nil
}

// checkTier refuses to run before setup has decided, or where its decision no
// longer holds.
func (h *Host) checkTier(spec tenant.Spec) error {
	switch h.Config.Tier {
	case "":
		return &Error{Kind: ErrHost, Msg: "this host is not set up", Hint: "mvm setup"}
	case config.TierKVM:
		if usable, why := vmm.ProbeKVM(); !usable {
			return &Error{Kind: ErrHost, Msg: "this host was set up for KVM, which is not usable now: " + why, Hint: "mvm doctor says more; mvm setup decides anew"}
		}
	case config.TierSoftware:
		if field := spec.OnlyFirecracker(); field != "" {
			return &Error{Kind: ErrHost, Msg: "the software tier has no equal for its " + field, Hint: "take it out of the spec with mvm tenant set, or run it where there is KVM"}
		}
	}
	return nil
}

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
			return &Error{Kind: ErrHost, Msg: err.Error(), Hint: "reserve more with sysctl vm.nr_hugepages, or run it without: mvm tenant set " + spec.TenantID + " --huge-pages=false"}
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
