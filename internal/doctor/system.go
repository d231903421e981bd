package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// system is a Linux host seen through its files, below a root that tests
// choose. Its checks are what Firecracker's makers recommend for production.
type system struct {
	root string
	arch string // as Go names it
}

func (s system) checks() []Check {
	list := []Check{
		{Name: "other firewalls", Run: s.otherFirewalls},
		{Name: "forwarding", Run: s.forwarding},
		{Name: "kernel", Run: s.kernel},
		{Name: "hyper-threading", Run: s.smt},
		{Name: "same-page merging", Run: s.ksm, Fix: func(context.Context) error {
			return os.WriteFile(s.path("/sys/kernel/mm/ksm/run"), []byte("0"), 0)
		}},
		{Name: "swap", Run: s.swap},
		{Name: "CPU vulnerabilities", Run: s.vulnerabilities},
		{Name: "kernel messages", Run: s.console},
		{Name: "huge page mitigation", Run: s.hugePages},
		{Name: "cgroup moves", Run: s.favorDynMods},
		{Name: "guests' timers", Run: s.timers},
		{Name: "microcode", Run: s.microcode},
		{Name: "memory errors", Run: s.memoryErrors},
		{Name: "clock", Run: func(context.Context) Finding {
			var t unix.Timex
			state, err := unix.Adjtimex(&t)
			return clockFinding(state, t.Status, err)
		}},
	}
	if s.arch == "arm64" {
		list = append(list, Check{Name: "guests' counter", Run: s.counter})
	}
	return list
}

func (s system) path(p string) string { return filepath.Join(s.root, p) }

// read is the content of a file without its newline; missing says that there
// is none.
func (s system) read(p string) (text string, missing bool, err error) {
	data, err := os.ReadFile(s.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "", true, nil
	}
	return strings.TrimSpace(string(data)), false, err
}

func (s system) kernel(context.Context) Finding {
	release, _, err := s.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return note("cannot tell: %v", err)
	}
	major, minor, known := kernelVersion(release)
	if !known {
		return note("cannot tell the version of %q", release)
	}
	switch [2]int{major, minor} {
	case [2]int{5, 10}, [2]int{6, 1}, [2]int{6, 18}:
		return ok("Linux %s, which Firecracker is tested on", release)
	}
	if major < 5 || major == 5 && minor < 10 {
		return failure("run Linux 5.10 or newer", "Linux %s is too old", release)
	}
	return note("Linux %s; Firecracker is tested on 5.10, 6.1 and 6.18", release)
}

func kernelVersion(release string) (major, minor int, known bool) {
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor) // what does not fit is not known
	return major, minor, n == 2
}

func (s system) smt(context.Context) Finding {
	active, missing, err := s.read("/sys/devices/system/cpu/smt/active")
	switch {
	case err != nil:
		return note("cannot tell: %v", err)
	case missing || active == "0":
		return ok("off")
	}
	return warning("boot with nosmt, or: echo off > /sys/devices/system/cpu/smt/control",
		"on: two tenants may share a core and learn of each other by its side channels")
}

func (s system) ksm(context.Context) Finding {
	run, missing, err := s.read("/sys/kernel/mm/ksm/run")
	switch {
	case err != nil:
		return note("cannot tell: %v", err)
	case missing || run == "0":
		return ok("off")
	}
	return warning("echo 0 > /sys/kernel/mm/ksm/run", "on: tenants may learn what others have in memory")
}

func (s system) swap(context.Context) Finding {
	swaps, missing, err := s.read("/proc/swaps")
	switch {
	case err != nil:
		return note("cannot tell: %v", err)
	case missing || strings.Count(swaps, "\n") == 0:
		return ok("none")
	}
	return warning("swapoff -a and take it out of /etc/fstab, or encrypt it",
		"in use: what guests hold in memory may reach a disk")
}

func (s system) vulnerabilities(context.Context) Finding {
	files, err := filepath.Glob(s.path("/sys/devices/system/cpu/vulnerabilities/*"))
	if err != nil || len(files) == 0 {
		return note("the kernel says nothing about them")
	}
	var open []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return note("cannot tell: %v", err)
		}
		if strings.Contains(string(text), "Vulnerable") {
			open = append(open, filepath.Base(f))
		}
	}
	if len(open) == 0 {
		return ok("none is open")
	}
	return warning("update kernel and microcode; leave out mitigations=off", "open: %s", strings.Join(open, ", "))
}

// console is about what the kernel prints on the host's own console, by the
// level that holds now, whoever set it.
func (s system) console(context.Context) Finding {
	levels, missing, err := s.read("/proc/sys/kernel/printk")
	if err != nil || missing {
		return note("cannot tell what the host's console gets: %v", cmp.Or(err, fs.ErrNotExist))
	}
	var level int
	if _, err := fmt.Sscan(levels, &level); err != nil {
		return note("cannot tell what the host's console gets: kernel.printk is %q", levels)
	}
	if level <= 1 {
		return ok("only what ends the host reaches its console")
	}
	return advice("dmesg -n 1, and boot with quiet loglevel=1", "the host's console gets all below level %d: guests that provoke messages slow the host down", level)
}

// multihit says whether this CPU has the iTLB multihit bug of x86, and so needs
// KVM's mitigation.
func (s system) multihit() bool {
	hit, missing, err := s.read("/sys/devices/system/cpu/vulnerabilities/itlb_multihit")
	return err == nil && !missing && !strings.HasPrefix(hit, "Not affected")
}

// hugePages is about the mitigation of iTLB multihit in KVM, which costs
// start-up time where the CPU does not need it.
func (s system) hugePages(context.Context) Finding {
	mode, missing, err := s.read("/sys/module/kvm/parameters/nx_huge_pages")
	switch {
	case err != nil:
		return note("cannot tell: %v", err)
	case missing || mode == "never" || mode == "N":
		return ok("off")
	case s.multihit():
		return ok("on, the CPU needs it")
	}
	return warning("boot with kvm.nx_huge_pages=never", "on (%s), and this CPU does not need it: machines start slower", mode)
}

// favorDynMods is about how fast threads move between groups of cgroup v2: the
// mitigation of iTLB multihit starts one for each machine, and Linux 6.0 made
// the move slow unless the file system is mounted so.
func (s system) favorDynMods(context.Context) Finding {
	release, _, err := s.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return note("cannot tell: %v", err)
	}
	if major, _, known := kernelVersion(release); !s.multihit() || known && major < 6 {
		return ok("fast enough")
	}
	mounts, _, err := s.read("/proc/mounts")
	if err != nil {
		return note("cannot tell: %v", err)
	}
	for line := range strings.Lines(mounts) {
		words := strings.Fields(line)
		if len(words) < 4 || words[2] != "cgroup2" {
			continue
		}
		if slices.Contains(strings.Split(words[3], ","), "favordynmods") {
			return ok("fast: %s is mounted with favordynmods", words[1])
		}
		return warning("mount -o remount,favordynmods "+words[1], "%s is mounted without favordynmods: machines start slower", words[1])
	}
	return ok("fast enough: there is no cgroup v2")
}

// timers is about the shortest period of a guest's timer that KVM on x86 keeps.
func (s system) timers(context.Context) Finding {
	const usual = 200 // microseconds, KVM's own default
	text, missing, err := s.read("/sys/module/kvm/parameters/min_timer_period_us")
	switch {
	case err != nil:
		return note("cannot tell: %v", err)
	case missing:
		return ok("no such setting here")
	}
	period, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return note("cannot tell: kvm.min_timer_period_us is %q", text)
	case period < usual:
		return warning(fmt.Sprintf("boot with kvm.min_timer_period_us=%d or more", usual), "a guest may have a timer every %d µs: it can slow the host down", period)
	case period == usual:
		return advice("boot with a higher kvm.min_timer_period_us", "a guest may have a timer every %d µs; where many guests run, a longer period spares the host", period)
	}
	return ok("every %d µs at most", period)
}

// isVirtual says whether the CPUs of /proc/cpuinfo are a virtual machine's.
func isVirtual(info string) bool {
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "flags" && slices.Contains(strings.Fields(value), "hypervisor") {
			return true
		}
	}
	return false
}

// microcode says what the CPUs run. Only their maker knows whether it is the
// newest.
func (s system) microcode(context.Context) Finding {
	info, _, err := s.read("/proc/cpuinfo")
	if err != nil {
		return note("cannot tell: %v", err)
	}
	var revisions []string
	for line := range strings.Lines(info) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "microcode" {
			revisions = append(revisions, strings.TrimSpace(value))
		}
	}
	slices.Sort(revisions)
	revisions = slices.Compact(revisions)
	const fix = "keep intel-microcode or amd64-microcode installed and current"
	switch {
	case isVirtual(info):
		return note("this host is a virtual machine: its microcode is the business of the machine below")
	case len(revisions) == 0:
		return note("the kernel does not tell; keep the firmware current")
	case len(revisions) > 1:
		return warning(fix, "the CPUs run different revisions: %s", strings.Join(revisions, ", "))
	}
	return advice(fix, "revision %s; whether it is the newest only the CPU's maker knows", revisions[0])
}

// memoryErrors is about memory that corrects itself. Guests that hammer rows of
// others' memory (Rowhammer) show there first; whether the modules also refresh
// rows that are hammered (TRR) only their maker knows.
func (s system) memoryErrors(context.Context) Finding {
	const fix = "take ECC memory with target row refresh (TRR), and see that the kernel watches it (EDAC)"
	info, _, err := s.read("/proc/cpuinfo")
	if err != nil {
		return note("cannot tell: %v", err)
	}
	controllers, err := filepath.Glob(s.path("/sys/devices/system/edac/mc/mc[0-9]*"))
	if err != nil {
		return note("cannot tell: %v", err)
	}
	switch {
	case len(controllers) == 0 && isVirtual(info):
		return note("this host is a virtual machine: ECC memory is the business of the machine below")
	case len(controllers) == 0:
		return advice(fix, "the kernel watches no ECC memory: bits that a guest flips (Rowhammer) stay unseen")
	}
	var corrected, uncorrected int
	for _, dir := range controllers {
		for file, sum := range map[string]*int{"ce_count": &corrected, "ue_count": &uncorrected} {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return note("cannot tell: %v", err)
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(data)))
			if err != nil {
				return note("cannot tell: %s of %s is no number", file, filepath.Base(dir))
			}
			*sum += n
		}
	}
	switch {
	case uncorrected > 0:
		return warning("replace the memory modules that the kernel's log names", "%d errors of the ECC memory could not be corrected", uncorrected)
	case corrected > 0:
		return warning("see in the kernel's log which module it is; a guest may be at it (Rowhammer)", "%d errors of the ECC memory were corrected since the host was started", corrected)
	}
	return ok("ECC memory, without an error; whether it has TRR only its maker knows")
}

// counter is about the counter of arm's CPUs: Linux 6.4 learned to give each
// guest one of its own.
func (s system) counter(context.Context) Finding {
	release, _, err := s.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return note("cannot tell: %v", err)
	}
	major, minor, known := kernelVersion(release)
	switch {
	case !known:
		return note("cannot tell the version of %q", release)
	case major > 6 || major == 6 && minor >= 4:
		return ok("each guest has its own")
	}
	return warning("run Linux 6.18, or another from 6.4 on", "with Linux %s, guests read the host's own counter (CNTPCT): it tells how long the host has been up, and all guests share it", release)
}

// otherFirewalls names those who also make rules: mvm's own table needs
// nothing of theirs, but theirs may drop what tenants send.
func (s system) otherFirewalls(context.Context) Finding {
	var seen []string
	for _, f := range []struct{ name, sign string }{
		{"firewalld", "/run/firewalld"}, {"ufw", "/run/ufw.lock"}, {"Docker", "/run/docker.sock"}, {"libvirt", "/run/libvirt"},
	} {
		if _, err := os.Stat(s.path(f.sign)); err == nil {
			seen = append(seen, f.name)
		}
	}
	if len(seen) == 0 {
		return ok("none is known to be at work")
	}
	return note("%s may drop what tenants send: if guests have no network, mvm net check and their own logs tell", strings.Join(seen, ", "))
}

func (s system) forwarding(context.Context) Finding {
	text, missing, err := s.read("/proc/sys/net/ipv4/ip_forward")
	switch {
	case err != nil || missing:
		return failure("mount /proc, with its sys/net", "cannot tell: %v", cmp.Or(err, fs.ErrNotExist))
	case text == "1":
		return ok("IPv4 forwarding is on")
	}
	return note("IPv4 forwarding is off; mvm switches it on with the first tenant that runs")
}

// clockFinding is about what adjtimex says.
func clockFinding(state int, status int32, err error) Finding {
	const timeError, unsynchronised = 5, 0x40
	switch {
	case err != nil:
		return note("cannot tell: %v", err)
	case state == timeError || status&unsynchronised != 0:
		return warning("run chrony or systemd-timesyncd", "not synchronised: logs and certificates of guests go by it")
	}
	return ok("synchronised")
}
