package qemu

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/auser/mvm/internal/fcconfig"
)

// The descriptors that QEMU finds open besides 0, 1 and 2.
const (
	fdQMP = 3
	fdTAP = 4
)

// ioThreads bounds the threads that read and write disks: a guest decides how
// many there is work for, and QEMU aborts when it cannot have one.
const ioThreads = 16

// Accelerators.
const (
	TCG = "tcg" // emulation
	KVM = "kvm"
)

// Target is what a command line is made for.
type Target struct {
	Arch  string // as Go names it: amd64 or arm64
	Accel string // TCG or KVM
	// TSCKHz is the frequency of the time stamp counter that an emulated
	// guest reads; 0 leaves the guest to find out.
	TSCKHz int
}

// TranslateError is a field of the configuration that has no equal in QEMU.
type TranslateError struct{ Path, Why string }

func (e *TranslateError) Error() string { return "QEMU cannot do " + e.Path + ": " + e.Why }

// Args translates a final Firecracker configuration into QEMU's arguments.
// Devices are in Firecracker's order, so that the guest gives them the same
// names. What has no equal is an error, never left out.
func Args(id string, cfg fcconfig.Config, t Target) ([]string, error) {
	if err := untranslatable(cfg); err != nil {
		return nil, err
	}
	machine, err := machineArgs(cfg.Machine, t)
	if err != nil {
		return nil, err
	}
	// No default devices, no configuration files, no display, no monitor but
	// ours; it starts halted, and a guest's reboot ends it.
	args := []string{
		"-name", id,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S",
		"-object", fmt.Sprintf("main-loop,id=main-loop,thread-pool-max=%d", ioThreads),
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	}
	args = append(args, machine...)
	args = append(args, bootArgs(cfg, t)...)
	args = append(args,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fdQMP), "-mon", "chardev=qmp,mode=control",
	)
	for i, d := range cfg.Drives {
		drive, err := driveArgs(fmt.Sprintf("drives[%d]", i), d, diskSlot(t, i))
		if err != nil {
			return nil, err
		}
		args = append(args, drive...)
	}
	args = append(args, networkArgs(cfg.NetworkInterfaces)...)
	rest, err := entropyArgs(cfg.Entropy)
	if err != nil {
		return nil, err
	}
	return append(append(args, rest...), balloonArgs(cfg.Balloon)...), nil
}

// untranslatable refuses the sections and fields that QEMU's machines have no
// equal for.
func untranslatable(cfg fcconfig.Config) error {
	m := cfg.Machine
	for _, r := range []struct {
		there     bool
		path, why string
	}{
		{len(cfg.Unmodelled) > 0, strings.Join(cfg.Unmodelled, ", "), "it is for a newer Firecracker"},
		{cfg.CPU != nil, "cpu-config", "CPU templates are Firecracker's"},
		{m.CPUTemplate != "" && m.CPUTemplate != "None", "machine-config.cpu_template", "CPU templates are Firecracker's"},
		{m.TrackDirtyPages, "machine-config.track_dirty_pages", "it is for Firecracker's snapshots"},
		{cfg.Vsock != nil, "vsock", "there is no such device on Unix sockets"},
		{len(cfg.Pmem) > 0, "pmem", "there is no such device on this machine"},
		{cfg.MemoryHotplug != nil, "memory-hotplug", "the machine's memory is fixed"},
		{cfg.MMDS != nil, "mmds-config", "the metadata service is Firecracker's"},
		{cfg.Logger != nil, "logger", "it is for Firecracker's own log"},
		{cfg.Metrics != nil, "metrics", "metrics are Firecracker's"},
		{len(cfg.NetworkInterfaces) > 1, "network-interfaces[1]", "one interface is all that it is handed"},
	} {
		if r.there {
			return &TranslateError{r.path, r.why}
		}
	}
	for i, n := range cfg.NetworkInterfaces {
		if n.RxRateLimiter != nil || n.TxRateLimiter != nil {
			return &TranslateError{fmt.Sprintf("network-interfaces[%d] rate limiters", i), "it cannot limit a TAP"}
		}
	}
	if b := cfg.Balloon; b != nil {
		switch {
		case b.AmountMiB != 0:
			return &TranslateError{"balloon.amount_mib", "a balloon begins empty"}
		case b.StatsPollingIntervalS != 0:
			return &TranslateError{"balloon.stats_polling_interval_s", "statistics are not polled"}
		case b.FreePageHinting:
			return &TranslateError{"balloon.free_page_hinting", "it is for Firecracker's snapshots"}
		}
	}
	return nil
}

func machineArgs(m fcconfig.MachineConfig, t Target) ([]string, error) {
	machine, cpu := "", ""
	switch t.Arch {
	case "amd64":
		// The cloud kernels know virtio-mmio devices from ACPI alone.
		machine, cpu = "microvm,acpi=on,pcie=off,usb=off,auto-kernel-cmdline=off", "max,-cx16"
	case "arm64":
		machine, cpu = "virt,gic-version=3,acpi=off,usb=off,highmem=on", "max"
	default:
		return nil, fmt.Errorf("there is no machine for %s", t.Arch)
	}
	accel := ""
	switch t.Accel {
	case TCG:
		// -cx16 above: QEMU 7.2 computes cmpxchg16b's flags wrong. The buffer
		// for translated code would take up to a gigabyte.
		accel = fmt.Sprintf("tcg,thread=multi,tb-size=%d", codeBufferMiB)
	case KVM:
		accel, cpu = "kvm", "host"
	default:
		return nil, fmt.Errorf("%q is no accelerator", t.Accel)
	}
	smp := fmt.Sprintf("cpus=%d", m.VCPUCount)
	if m.SMT && m.VCPUCount > 1 {
		smp += ",threads=2"
	}
	args := []string{"-accel", accel, "-cpu", cpu, "-smp", smp, "-m", fmt.Sprintf("size=%dM", m.MemSizeMiB)}
	if m.HugePages == "2M" {
		machine += ",memory-backend=ram"
		args = append(args, "-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%dM,hugetlb=on,hugetlbsize=2M", m.MemSizeMiB))
	}
	return append([]string{"-machine", machine}, args...), nil
}

// bootArgs boots the kernel directly. To the command line it adds what
// Firecracker adds, but for the virtio_mmio.device words: the machine
// describes its devices itself.
func bootArgs(cfg fcconfig.Config, t Target) []string {
	words := []string{"pci=off"}
	for _, d := range cfg.Drives {
		if !d.IsRootDevice {
			continue
		}
		root, mode := "root=/dev/vda", "rw"
		if d.PartUUID != "" {
			root = "root=PARTUUID=" + d.PartUUID
		}
		if d.IsReadOnly {
			mode = "ro"
		}
		words = append(words, root, mode)
	}
	if t.TSCKHz > 0 && t.Accel == TCG {
		// See tsc. All vCPUs read the one counter of the host.
		words = append(words, fmt.Sprintf("tsc_early_khz=%d", t.TSCKHz), "tsc=reliable")
	}
	if t.Arch == "arm64" {
		// Firecracker's serial port is ttyS0 everywhere, the virt machine's
		// is not.
		words = append(words, "console=ttyAMA0")
	}
	args := []string{"-kernel", cfg.BootSource.KernelImagePath}
	if initrd := cfg.BootSource.InitrdPath; initrd != "" {
		args = append(args, "-initrd", initrd)
	}
	return append(args, "-append", fcconfig.AddBootWords(cfg.BootSource.BootArgs, words...))
}

// diskSlot puts the i-th disk where the guest finds it i-th. Kernels go through
// the virt machine's slots from the first on, QEMU fills them from the last.
func diskSlot(t Target, i int) string {
	if t.Arch == "arm64" {
		return fmt.Sprintf(",bus=virtio-mmio-bus.%d", i)
	}
	return ""
}

func driveArgs(path string, d fcconfig.Drive, slot string) ([]string, error) {
	if d.Socket != "" {
		return nil, &TranslateError{path + ".socket", "disks are files"}
	}
	cache, aio := "unsafe", "threads"
	if d.CacheType == "Writeback" {
		cache = "writeback"
	}
	if d.IOEngine == "Async" {
		aio = "io_uring"
	}
	readOnly := "off"
	if d.IsReadOnly {
		readOnly = "on"
	}
	if d.BlkSize != 0 || d.Topology != nil {
		return nil, &TranslateError{path, "blk_size and topology are Firecracker's"}
	}
	discard := ""
	if d.Discard { // otherwise QEMU lets the guest trim, and ignores it
		discard = ",discard=unmap"
	}
	throttle, err := throttleOptions(path+".rate_limiter", d.RateLimiter)
	if err != nil {
		return nil, err
	}
	return []string{
		"-drive", fmt.Sprintf("if=none,id=%s,file=%s,format=raw,readonly=%s,cache=%s,aio=%s%s%s",
			d.DriveID, escape(d.PathOnHost), readOnly, cache, aio, discard, throttle),
		// As Firecracker: the guest is told of an error of the host's disk. Left
		// alone, a full one has QEMU stop the guest for good.
		"-device", fmt.Sprintf("virtio-blk-device,drive=%s,werror=report,rerror=report%s", d.DriveID, slot),
	}, nil
}

// throttleOptions turns token buckets into QEMU's leaky ones: the same rate,
// and the same burst where a bucket lasts longer than a second.
func throttleOptions(path string, l *fcconfig.RateLimiter) (string, error) {
	if l == nil {
		return "", nil
	}
	out := ""
	for _, b := range []struct {
		key, name string
		bucket    *fcconfig.TokenBucket
	}{{"bandwidth", "bps", l.Bandwidth}, {"ops", "iops", l.Ops}} {
		if b.bucket == nil || b.bucket.Size == 0 || b.bucket.RefillTime == 0 {
			continue // Firecracker takes 0 for no limit
		}
		if b.bucket.OneTimeBurst != 0 {
			return "", &TranslateError{path + "." + b.key + ".one_time_burst", "a burst comes back whenever the disk was idle"}
		}
		rate, err := perSecond(b.bucket)
		if err != nil {
			return "", &TranslateError{path + "." + b.key, err.Error()}
		}
		out += fmt.Sprintf(",throttling.%s-total=%d", b.name, rate)
		if b.bucket.Size > rate {
			out += fmt.Sprintf(",throttling.%s-total-max=%d", b.name, b.bucket.Size)
		}
	}
	return out, nil
}

// perSecond is the rate at which a bucket is refilled.
func perSecond(b *fcconfig.TokenBucket) (uint64, error) {
	const most = 1_000_000_000_000_000 // QEMU's own
	if b.Size > most {
		return 0, errors.New("the bucket is larger than QEMU counts")
	}
	switch rate := b.Size * 1000 / b.RefillTime; {
	case rate > most:
		return 0, errors.New("the rate is higher than QEMU counts")
	case rate == 0:
		return 0, errors.New("QEMU counts no less than one a second")
	default:
		return rate, nil
	}
}

func networkArgs(interfaces []fcconfig.NetworkInterface) []string {
	var args []string
	for _, n := range interfaces {
		device := "virtio-net-device,netdev=" + n.IfaceID
		if n.GuestMAC != "" {
			device += ",mac=" + n.GuestMAC
		}
		if n.MTU != 0 {
			device += ",host_mtu=" + strconv.Itoa(n.MTU)
		}
		args = append(args, "-netdev", fmt.Sprintf("tap,id=%s,fd=%d,vhost=off", n.IfaceID, fdTAP), "-device", device)
	}
	return args
}

func entropyArgs(e *fcconfig.Entropy) ([]string, error) {
	if e == nil {
		return nil, nil
	}
	device := "virtio-rng-device,rng=entropy"
	if l := e.RateLimiter; l != nil {
		if l.Ops != nil {
			return nil, &TranslateError{"entropy.rate_limiter.ops", "only bytes can be limited"}
		}
		if b := l.Bandwidth; b != nil && b.Size > 0 && b.RefillTime > 0 {
			if b.OneTimeBurst != 0 {
				return nil, &TranslateError{"entropy.rate_limiter.bandwidth.one_time_burst", "there is no burst"}
			}
			device += fmt.Sprintf(",max-bytes=%d,period=%d", b.Size, b.RefillTime)
		}
	}
	return []string{"-object", "rng-builtin,id=entropy", "-device", device}, nil
}

func balloonArgs(b *fcconfig.Balloon) []string {
	if b == nil {
		return nil
	}
	return []string{"-device", fmt.Sprintf("virtio-balloon-device,deflate-on-oom=%s,free-page-reporting=%s",
		onOff(b.DeflateOnOOM), onOff(b.FreePageReporting))}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// escape doubles commas, which separate QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
