package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// system is a Linux host seen through its files, below a root that tests
// choose. Its checks are what Firecracker's makers recommend for production.
type system string

func (s system) checks() []Check {
	ksm := check{"same-page merging", s.ksm}
	return []Check{
		check{"kernel", func(context.Context) Finding { return kernelFinding(release()) }},
		check{"hyper-threading", s.smt},
		fixable{ksm, func(context.Context) error {
			return os.WriteFile(s.path("/sys/kernel/mm/ksm/run"), []byte("0"), 0)
		}},
		check{"swap", s.swap},
		check{"CPU vulnerabilities", s.vulnerabilities},
		check{"kernel messages", s.console},
		check{"huge page mitigation", s.hugePages},
		check{"clock", func(context.Context) Finding { return clock() }},
	}
}

func (s system) path(p string) string { return filepath.Join(string(s), p) }

// read is the content of a file without its newline; missing says that there
// is none.
func (s system) read(p string) (text string, missing bool, err error) {
	data, err := os.ReadFile(s.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "", true, nil
	}
	return strings.TrimSpace(string(data)), false, err
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func kernelFinding(release string) Finding {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
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

func (s system) console(context.Context) Finding {
	line, _, err := s.read("/proc/cmdline")
	if err != nil {
		return note("cannot tell: %v", err)
	}
	words := strings.Fields(line)
	quiet := false
	for _, w := range words {
		quiet = quiet || w == "quiet" || w == "loglevel=1"
	}
	if quiet {
		return ok("quiet")
	}
	return warning("boot with quiet loglevel=1", "the host's console gets all: guests that provoke messages slow the host down")
}

// hugePages is about the iTLB multihit mitigation of KVM on x86, which costs
// start-up time where the CPU does not need it.
func (s system) hugePages(context.Context) Finding {
	if runtime.GOARCH != "amd64" {
		return ok("not of this architecture")
	}
	hit, missing, err := s.read("/sys/devices/system/cpu/vulnerabilities/itlb_multihit")
	if err != nil || missing || !strings.HasPrefix(hit, "Not affected") {
		return ok("as the CPU needs it")
	}
	mode, missing, err := s.read("/sys/module/kvm/parameters/nx_huge_pages")
	if err != nil || missing || mode == "never" || mode == "N" {
		return ok("off, the CPU does not need it")
	}
	return warning("boot with kvm.nx_huge_pages=never", "on (%s), and this CPU does not need it: machines start slower", mode)
}

func clock() Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	const timeError, unsynchronised = 5, 0x40
	switch {
	case err != nil:
		return note("cannot tell: %v", err)
	case state == timeError || t.Status&unsynchronised != 0:
		return warning("run chrony or systemd-timesyncd", "not synchronised: logs and certificates of guests go by it")
	}
	return ok("synchronised")
}
