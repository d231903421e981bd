package vmm

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ioctls of /dev/kvm, see Linux's Documentation/virt/kvm/api.rst.
const (
	kvmGetAPIVersion = 0xAE00
	kvmCreateVM      = 0xAE01
	kvmAPIVersion    = 12
)

// ProbeKVM says whether machines can run on this host's KVM, and why not.
func ProbeKVM() (ok bool, reason string) {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false, fmt.Sprintf("cannot look at the CPU: %v", err)
	}
	return probeKVM("/dev/kvm", runtime.GOARCH, string(cpuinfo))
}

func probeKVM(device, arch, cpuinfo string) (ok bool, reason string) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Sprintf("cannot use KVM: %v", err)
	}
	defer f.Close()
	version, err := unix.IoctlRetInt(int(f.Fd()), kvmGetAPIVersion)
	if err != nil || version != kvmAPIVersion {
		return false, fmt.Sprintf("%s does not answer as KVM does", device)
	}
	vm, err := unix.IoctlRetInt(int(f.Fd()), kvmCreateVM)
	if err != nil {
		return false, fmt.Sprintf("KVM cannot create a machine: %v", err)
	}
	unix.Close(vm)
	// A paravirtual KVM opens, creates machines and then hangs a stock kernel:
	// the CPU itself must have the extension.
	if arch == "amd64" && !hasFlag(cpuinfo, "vmx") && !hasFlag(cpuinfo, "svm") {
		return false, fmt.Sprintf("%s opens, but the CPU shows neither vmx nor svm: there is no hardware virtualisation to rely on", device)
	}
	return true, ""
}

// hasFlag looks for a word in the flags lines of /proc/cpuinfo.
func hasFlag(cpuinfo, flag string) bool {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		for _, word := range strings.Fields(value) {
			if word == flag {
				return true
			}
		}
	}
	return false
}
