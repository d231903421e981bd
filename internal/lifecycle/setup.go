package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/config"
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

// decideTier says what tenants run on where wanted was asked for, and why;
// unusable is the reason why KVM is not usable. Emulation is never a silent
// fallback: who wants it says so.
func decideTier(wanted string, usable bool, unusable string) (tier, reason string, err error) {
	switch wanted {
	case "", config.TierKVM:
		if usable {
			return config.TierKVM, "KVM is usable", nil
		}
		return "", "", &Error{
			Kind: ErrHost,
			Msg:  "this host has no usable hardware virtualisation: " + unusable,
			Hint: "mvm setup --tier software runs guests by emulation, which is slow and no isolation boundary to rely on",
		}
	case config.TierSoftware:
		reason = "asked for with --tier software"
		if !usable {
			reason += "; " + unusable
		}
		return config.TierSoftware, reason, nil
	}
	return "", "", &tenant.InputError{Msg: fmt.Sprintf("%q is no tier", wanted), Hint: "use kvm or software"}
}

// Setup checks the host and decides the tier.
func (h *Host) Setup(ctx context.Context, o SetupOptions) (SetupDone, error) {
	usable, why := vmm.ProbeKVM()
	c := h.Config
	var err error
	if c.Tier, c.TierReason, err = decideTier(o.Tier, usable, why); err != nil {
		return SetupDone{}, err
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
