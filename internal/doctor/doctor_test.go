package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm/firecracker/install"
)

// tree makes a host of files.
func tree(t *testing.T, files map[string]string) system {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return system(root)
}

func TestSystemChecks(t *testing.T) {
	const (
		cpu     = "sys/devices/system/cpu/"
		kvm     = "sys/module/kvm/parameters/"
		ksm     = "sys/kernel/mm/ksm/run"
		release = "proc/sys/kernel/osrelease"
		hit     = cpu + "vulnerabilities/itlb_multihit"
		pages   = kvm + "nx_huge_pages"
		plain   = "tmpfs /run tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0"
	)
	type files = map[string]string
	for _, c := range []struct {
		check string
		files files
		want  Level
		found string // a part of what it says
	}{
		{"kernel", files{release: "6.1.0-40-amd64"}, OK, "6.1.0-40-amd64"},
		{"kernel", files{release: "5.10.0"}, OK, ""},
		{"kernel", files{release: "6.18.2"}, OK, ""},
		{"kernel", files{release: "6.12.3"}, Note, "5.10, 6.1 and 6.18"},
		{"kernel", files{release: "4.19.0"}, Failure, "too old"},
		{"kernel", files{release: "5.4.0"}, Failure, "too old"},
		{"kernel", files{release: "odd"}, Note, "cannot tell"},
		{"hyper-threading", files{cpu + "smt/active": "0"}, OK, ""},
		{"hyper-threading", files{cpu + "smt/active": "1"}, Warning, ""},
		{"same-page merging", files{ksm: "0"}, OK, ""},
		{"same-page merging", files{ksm: "1"}, Warning, ""},
		{"swap", files{"proc/swaps": "Filename Type Size Used Priority"}, OK, ""},
		{"swap", files{"proc/swaps": "Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2"}, Warning, ""},
		{"CPU vulnerabilities", files{cpu + "vulnerabilities/meltdown": "Mitigation: PTI"}, OK, ""},
		{"CPU vulnerabilities", files{cpu + "vulnerabilities/meltdown": "Vulnerable", hit: "Not affected"}, Warning, "open: meltdown"},
		{"kernel messages", files{"proc/cmdline": "root=/dev/vda1 quiet loglevel=1"}, OK, ""},
		{"kernel messages", files{"proc/cmdline": "root=/dev/vda1"}, Note, "console"},
		{"huge page mitigation", files{}, OK, "off"},
		{"huge page mitigation", files{hit: "Not affected", pages: "never"}, OK, "off"},
		{"huge page mitigation", files{hit: "KVM: Mitigation: Split huge pages", pages: "Y"}, OK, "needs it"},
		{"huge page mitigation", files{hit: "Not affected", pages: "Y"}, Warning, "does not need it"},
		{"cgroup moves", files{release: "6.1.0", hit: "Not affected", "proc/mounts": plain}, OK, "fast enough"},
		{"cgroup moves", files{release: "5.10.0", hit: "KVM: Vulnerable", "proc/mounts": plain}, OK, "fast enough"},
		{"cgroup moves", files{release: "6.1.0", hit: "KVM: Vulnerable", "proc/mounts": "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0"}, OK, "no cgroup v2"},
		{"cgroup moves", files{release: "6.1.0", hit: "KVM: Vulnerable", "proc/mounts": plain}, Warning, "/sys/fs/cgroup is mounted without"},
		{"cgroup moves", files{release: "6.1.0", hit: "KVM: Vulnerable", "proc/mounts": "none /sys/fs/cgroup cgroup2 rw,favordynmods 0 0"}, OK, "with favordynmods"},
		{"guests' timers", files{}, OK, "no such setting"},
		{"guests' timers", files{kvm + "min_timer_period_us": "500"}, OK, "500 µs"},
		{"guests' timers", files{kvm + "min_timer_period_us": "200"}, Note, "200 µs"},
		{"guests' timers", files{kvm + "min_timer_period_us": "0"}, Warning, "0 µs"},
		{"guests' timers", files{kvm + "min_timer_period_us": "often"}, Note, `"often"`},
		{"microcode", files{"proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0x2b000620\nflags\t\t: fpu vmx\nmicrocode\t: 0x2b000620"}, Note, "revision 0x2b000620;"},
		{"microcode", files{"proc/cpuinfo": "microcode\t: 0x1\nflags\t\t: fpu hypervisor"}, Note, "virtual machine"},
		{"microcode", files{"proc/cpuinfo": "microcode\t: 0x2\nmicrocode\t: 0x1"}, Warning, "0x1, 0x2"},
		{"microcode", files{"proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 50.00"}, Note, "does not tell"},
	} {
		s := tree(t, c.files)
		at := slices.IndexFunc(s.checks(), func(k Check) bool { return k.Name() == c.check })
		if at < 0 {
			t.Fatalf("there is no check %q", c.check)
		}
		f := s.checks()[at].Run(t.Context())
		if f.Level != c.want || !strings.Contains(f.Found, c.found) {
			t.Errorf("%s of %q: %+v, want %s with %q", c.check, c.files, f, c.want, c.found)
		}
		if f.Fix == "" && (f.Level == Warning || f.Level == Failure) {
			t.Errorf("%s of %q: no fix", c.check, c.files)
		}
	}
}

func TestReleases(t *testing.T) {
	pin := install.Pins[0].Version
	for _, c := range []struct {
		firecracker, jailer string
		want                Level
	}{{pin, pin, OK}, {"1.15.0", "1.15.0", Note}, {pin, "1.15.0", Failure}, {"1.15.0", pin, Failure}} {
		f := releaseFinding(c.firecracker, c.jailer)
		if f.Level != c.want || f.Level != OK && !strings.HasSuffix(f.Fix, pin) {
			t.Errorf("firecracker %s, jailer %s: %+v, want %s", c.firecracker, c.jailer, f, c.want)
		}
	}
}

// TestJailerOfAnotherRelease looks at programs as a host has them.
func TestJailerOfAnotherRelease(t *testing.T) {
	dir, pin := t.TempDir(), install.Pins[0].Version
	program := func(file, says string) string {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	h := host{&lifecycle.Host{}}
	h.Config.Tier = config.TierKVM
	h.Config.VMM.Firecracker = program("firecracker", "Firecracker v"+pin)
	for says, want := range map[string]Level{"Jailer v" + pin: OK, "Jailer v1.15.0": Failure, "nothing": Failure} {
		h.Config.VMM.Jailer = program("jailer", says)
		if f := h.vmm(t.Context()); f.Level != want {
			t.Errorf("a jailer that says %q: %+v, want %s", says, f, want)
		}
	}
}

func TestDisk(t *testing.T) {
	const block = 4096
	blocks := func(gib uint64) uint64 { return gib << 30 / block }
	for _, c := range []struct {
		free, inodes, inodesFree uint64
		want                     Level
		found                    string
	}{
		{blocks(50), 1000, 500, OK, "50 GiB free of 100 GiB"},
		{blocks(50), 0, 0, OK, ""}, // btrfs counts no inodes
		{blocks(50), 1000, 9, Failure, "inodes"},
		{blocks(5), 1000, 500, Warning, "5 GiB"},
		{blocks(1) - 1, 1000, 500, Failure, "will fail"},
	} {
		f := diskFinding(unix.Statfs_t{Bsize: block, Blocks: blocks(100), Bavail: c.free, Files: c.inodes, Ffree: c.inodesFree})
		if f.Level != c.want || !strings.Contains(f.Found, c.found) || (f.Fix == "") != (f.Level == OK) {
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

func TestHugePagePool(t *testing.T) {
	for _, c := range []struct {
		want, pool int
		level      Level
		fix        string
	}{
		{0, 0, OK, ""}, {512, 512, OK, ""}, {0, 512, Note, "sysctl vm.nr_hugepages=0, if nothing else uses them"},
		{1024, 512, Warning, "sysctl vm.nr_hugepages=512, and in /etc/sysctl.d for the next boot"},
	} {
		if f := poolFinding(c.want, c.pool); f.Level != c.level || f.Fix != c.fix {
			t.Errorf("%d MiB of %d: %+v", c.want, c.pool, f)
		}
	}
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := host{&lifecycle.Host{Store: s}}
	if f := h.hugePagePool(t.Context()); strings.Contains(f.Found, "tenants want") {
		t.Errorf("no tenants: %+v", f)
	}
	spec := tenant.Spec{TenantID: "big", FlakeRef: "/f", MemMiB: tenant.MaxMemMiB, Machine: tenant.Machine{HugePages: true}}
	spec.Defaults()
	if err := os.MkdirAll(s.Tenant("big").Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveSpec(spec); err != nil {
		t.Fatal(err)
	}
	if f := h.hugePagePool(t.Context()); f.Level != Warning || !strings.Contains(f.Found, "want 1048576 MiB") {
		t.Errorf("a tenant that no host can hold: %+v", f)
	}
}

func TestVerity(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		0: "has it", unix.ENODATA: "has it", unix.EOPNOTSUPP: "lacks it", unix.ENOTTY: "lacks it", unix.EIO: "cannot tell",
	} {
		if f := verityFinding(errno); !strings.Contains(f.Found, want) {
			t.Errorf("%v: %+v, want %q", errno, f, want)
		}
	}
	dir, err := os.MkdirTemp("/dev/shm", "doctor-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := host{&lifecycle.Host{Store: s}}
	if f := h.verity(t.Context()); f.Level != Note || !strings.Contains(f.Found, "lacks it") {
		t.Errorf("on tmpfs, which has no fs-verity: %+v", f)
	}
}

func TestFix(t *testing.T) {
	bad := tree(t, map[string]string{"sys/kernel/mm/ksm/run": "1"})
	var ksm Check
	for _, c := range bad.checks() {
		if c.Name() == "same-page merging" {
			ksm = c
		}
	}
	if r := Run(t.Context(), []Check{ksm}, false)[0]; r.Level != Warning || !r.Fixable || r.Fixed {
		t.Errorf("without --fix: %+v", r)
	}
	if r := Run(t.Context(), []Check{ksm}, true)[0]; r.Level != OK || !r.Fixed {
		t.Errorf("with --fix: %+v", r)
	}
	broken := fixable{
		check{"broken", func(context.Context) Finding { return failure("mend it", "broken") }},
		func(context.Context) error { return errors.New("no tools") },
	}
	r := Run(t.Context(), []Check{broken}, true)
	if r[0].Fixed || r[0].Error != "no tools" || Worst(r) != Failure {
		t.Errorf("a fix that fails: %+v", r)
	}
}

func TestReplaceable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	file := filepath.Join(dir, "firecracker")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir, file os.FileMode
		owner     int
		want      string
	}{{0o755, 0o755, 0, ""}, {0o755, 0o775, 0, file}, {0o777, 0o755, 0, dir}, {0o755, 0o755, 1000, file}, {os.ModeSticky | 0o777, 0o755, 0, ""}} {
		err := errors.Join(os.Chmod(dir, c.dir), os.Chown(file, c.owner, 0), os.Chmod(file, c.file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := replaceable(file); got != c.want || err != nil {
			t.Errorf("folder %v, file %v of %d: %q, %v, want %q", c.dir, c.file, c.owner, got, err, c.want)
		}
	}
	if _, err := replaceable(file + "-none"); err == nil {
		t.Error("a file that is not there is fine")
	}
}
