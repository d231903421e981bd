package lima

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Host is what decides which Lima VM a machine can run.
type Host struct {
	OS     string // darwin or linux
	Arch   string // amd64 or arm64, of the hardware
	Chip   string // Apple M3 Pro; empty on Linux
	MacOS  string // 15.2; empty on Linux
	Nested bool   // Linux: KVM is there and offers itself to its guests
	KVM    bool   // Linux: /dev/kvm is there, for this user
	Denied bool   // Linux: /dev/kvm is there and this user may not open it
}

// Machine names a kind of Lima VM.
type Machine string

const (
	// Native runs on the machine's own hardware virtualisation and has KVM
	// inside: the kvm tier.
	Native Machine = "native"
	// Software runs on hardware virtualisation without KVM inside: guests are
	// emulated, the software tier.
	Software Machine = "software"
	// Emulated is an x86-64 machine in which everything is emulated, KVM too:
	// Firecracker runs, very slowly.
	Emulated Machine = "emulated"
)

// ParseMac reads `system_profiler -json SPHardwareDataType` and
// `sw_vers -productVersion`. The architecture is the hardware's: a program
// that Rosetta translates sees another one.
func ParseMac(profile []byte, version string) (Host, error) {
	var p struct {
		Hardware []struct {
			Chip string `json:"chip_type"`
			CPU  string `json:"cpu_type"`
		} `json:"SPHardwareDataType"`
	}
	if err := json.Unmarshal(profile, &p); err != nil {
		return Host{}, fmt.Errorf("cannot read what system_profiler says: %w", err)
	}
	if len(p.Hardware) == 0 {
		return Host{}, errors.New("cannot read what system_profiler says: it names no hardware")
	}
	h := Host{OS: "darwin", Arch: "arm64", Chip: p.Hardware[0].Chip, MacOS: strings.TrimSpace(version)}
	if h.Chip == "" || strings.Contains(h.Chip, "Intel") {
		h.Arch, h.Chip = "amd64", p.Hardware[0].CPU
	}
	return h, nil
}

// ParseLinux takes uname's machine, whether /dev/kvm is there and what
// /sys/module/kvm_{intel,amd}/parameters/nested says, which is empty elsewhere.
func ParseLinux(machine string, kvm bool, nested string) (Host, error) {
	h := Host{OS: "linux", KVM: kvm}
	switch machine {
	case "x86_64":
		h.Arch = "amd64"
	case "aarch64", "arm64":
		h.Arch = "arm64"
	default:
		return h, fmt.Errorf("mvm does not run on %s machines", machine)
	}
	switch strings.TrimSpace(nested) {
	case "Y", "1":
		h.Nested = kvm
	}
	return h, nil
}

var appleM = regexp.MustCompile(`^Apple M([0-9]+)\b`)

// nestedMac says whether this Mac can offer virtualisation inside a VM: an M3
// or newer with macOS 15 or newer.
func (h Host) nestedMac() (bool, string) {
	if h.Arch == "amd64" {
		return false, "Intel Macs cannot offer virtualisation inside a VM"
	}
	m := appleM.FindStringSubmatch(h.Chip)
	if m == nil {
		return false, fmt.Sprintf("%q is no chip known to offer virtualisation inside a VM (M3 and newer do)", h.Chip)
	}
	if generation, err := strconv.Atoi(m[1]); err != nil || generation < 3 {
		return false, h.Chip + " cannot offer virtualisation inside a VM: that takes an M3 or newer"
	}
	major, _, _ := strings.Cut(h.MacOS, ".")
	if n, err := strconv.Atoi(major); err != nil || n < 15 {
		return false, fmt.Sprintf("%s could offer virtualisation inside a VM, but macOS %s does not: that takes macOS 15 or newer", h.Chip, h.MacOS)
	}
	return true, fmt.Sprintf("%s with macOS %s offers virtualisation inside a VM", h.Chip, h.MacOS)
}

// Nests says whether guests of a Lima VM on this host can have hardware
// virtualisation, and why.
func (h Host) Nests() (ok bool, why string) {
	switch {
	case h.OS == "darwin":
		return h.nestedMac()
	case h.Denied:
		return false, "this user may not open /dev/kvm"
	case !h.KVM:
		return false, "this host has no /dev/kvm"
	case !h.Nested:
		return false, "this host's KVM does not offer virtualisation inside a VM (the kvm module's parameter nested)"
	}
	return true, "this host's KVM offers virtualisation inside a VM"
}

// ChoiceError means that this host cannot do the default and a person has to
// choose, knowing what each choice means.
type ChoiceError struct{ Why string }

func (e *ChoiceError) Error() string {
	return "guests cannot have hardware virtualisation here: " + e.Why
}

func (e *ChoiceError) Unwrap() error { return ErrHost }

// Advice lists the choices.
func (e *ChoiceError) Advice() string {
	return strings.Join([]string{
		"choose one of these:",
		"  mvm setup --machine software   guests are emulated inside the Lima VM (software tier): fine for trying things, slow, and no isolation boundary to rely on",
		"  mvm setup --machine emulated   the Lima VM is an emulated x86-64 machine with an emulated KVM: Firecracker itself runs, many times slower still",
		"  a remote Linux host with KVM: run mvm there, over ssh",
	}, "\n")
}

// Choose settles which machine to make. Without a wish it is Native, and where
// that is impossible a *ChoiceError: nothing falls back silently.
func (h Host) Choose(wish Machine) (Machine, error) {
	ok, why := h.Nests()
	switch wish {
	case "", Native:
		if !ok {
			return "", &ChoiceError{Why: why}
		}
		return Native, nil
	case Emulated:
		if h.OS == "linux" && h.Arch == "amd64" && (h.KVM || h.Denied) {
			return "", errors.New("an x86-64 VM of Lima gets this host's own KVM, not an emulated machine: use native or software")
		}
		return Emulated, nil
	case Software:
		return Software, nil
	}
	return "", fmt.Errorf("%q is no kind of machine: use native, software or emulated", wish)
}

// Tier is the tier that setup decides on inside such a machine.
func (m Machine) Tier() string {
	if m == Software {
		return "software"
	}
	return "kvm"
}

// Says tells in a sentence what m means on this host.
func (h Host) Says(m Machine) string {
	_, why := h.Nests()
	switch m {
	case Software:
		return "software tier, as asked: guests are emulated, slow, and no isolation boundary to rely on; " + why
	case Emulated:
		return "emulated x86-64 machine, as asked: Firecracker runs on an emulated KVM, very slowly; " + why
	}
	return "kvm tier: " + why
}
