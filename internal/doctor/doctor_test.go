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
	"github.com/auser/mvm/internal/devvm"
	"github.com/auser/mvm/internal/diskspace"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm/firecracker/install"
)

// tree makes a host of files. It is an arm one, so that it has every check.
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
	return system{root, "arm64"}
}

func TestSystemChecks(t *testing.T) {
	const (
		cpu     = "sys/devices/system/cpu/"
		kvm     = "sys/module/kvm/parameters/"
		ksm     = "sys/kernel/mm/ksm/run"
		release = "proc/sys/kernel/osrelease"
		hit     = cpu + "vulnerabilities/itlb_multihit"
		pages   = kvm + "nx_huge_pages"
		edac    = "sys/devices/system/edac/mc/"
		printk  = "proc/sys/kernel/printk"
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
		{"kernel messages", files{printk: "1\t4\t1\t7"}, OK, "only what ends the host"},
		{"kernel messages", files{printk: "4\t4\t1\t7"}, Note, "below level 4"}, // quiet alone
		{"kernel messages", files{printk: "7\t4\t1\t7"}, Note, "below level 7"},
		{"kernel messages", files{}, Note, "cannot tell"},
		{"kernel messages", files{printk: "loud"}, Note, "cannot tell"},
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
		{"memory errors", files{}, Note, "watches no ECC memory"},
		{"memory errors", files{"proc/cpuinfo": "flags\t\t: fpu hypervisor"}, Note, "virtual machine"},
		{"memory errors", files{edac + "mc0/ce_count": "0", edac + "mc0/ue_count": "0", edac + "power/control": "auto"}, OK, "whether it has TRR"},
		{"memory errors", files{edac + "mc0/ce_count": "0", edac + "mc0/ue_count": "0", edac + "mc1/ce_count": "3", edac + "mc1/ue_count": "0"}, Warning, "3 errors of the ECC memory were corrected"},
		{"memory errors", files{edac + "mc0/ce_count": "3", edac + "mc0/ue_count": "1"}, Warning, "1 errors of the ECC memory could not"},
		{"memory errors", files{edac + "mc0/ce_count": "3"}, Note, "cannot tell"},
		{"memory errors", files{edac + "mc0/ce_count": "many", edac + "mc0/ue_count": "0"}, Note, "no number"},
		{"guests' counter", files{release: "6.18.2"}, OK, "its own"},
		{"guests' counter", files{release: "6.4.0-arm64"}, OK, "its own"},
		{"guests' counter", files{release: "7.0.0"}, OK, "its own"},
		{"guests' counter", files{release: "6.1.0-40-arm64"}, Warning, "host's own counter (CNTPCT)"},
		{"guests' counter", files{release: "5.10.0"}, Warning, "CNTPCT"},
		{"guests' counter", files{release: "odd"}, Note, "cannot tell"},
		{"other firewalls", files{}, OK, "none"},
		{"other firewalls", files{"run/docker.sock": "", "run/firewalld/x": ""}, Note, "firewalld, Docker may drop"},
		{"forwarding", files{"proc/sys/net/ipv4/ip_forward": "1"}, OK, "on"},
		{"forwarding", files{"proc/sys/net/ipv4/ip_forward": "0"}, Note, "switches it on"},
		{"forwarding", files{}, Failure, "cannot tell"},
	} {
		s := tree(t, c.files)
		at := slices.IndexFunc(s.checks(), func(k Check) bool { return k.Name == c.check })
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
	made, err := fcconfig.ParseVersion(pin)
	if err != nil {
		t.Fatal(err)
	}
	minor := func(by int) string { return fcconfig.Version{made[0], made[1] + by, 0}.String() }
	for _, c := range []struct {
		firecracker, jailer string
		want                Level
	}{
		{pin, pin, OK}, {minor(1), minor(1), Note}, {minor(-1), minor(-1), Note}, {minor(-2), minor(-2), Warning},
		{"unknown", "unknown", Note}, {pin, minor(-1), Failure}, {minor(-1), pin, Failure},
	} {
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
	for _, c := range []struct {
		free, inodes, inodesFree uint64
		want                     Level
		found                    string
	}{
		{50 << 30, 1000, 500, OK, "50 GiB free of 100 GiB"},
		{50 << 30, 0, 0, OK, ""}, // btrfs counts no inodes
		{50 << 30, 1000, 9, Failure, "inodes"},
		{5 << 30, 1000, 500, Warning, "5120 MiB free of 102400 MiB"},
		{1<<30 - 1, 1000, 500, Failure, "will fail"},
	} {
		f := diskFinding(diskspace.Space{Total: 100 << 30, Free: c.free, Files: c.inodes, FilesFree: c.inodesFree})
		if f.Level != c.want || !strings.Contains(f.Found, c.found) || (f.Fix == "") != (f.Level == OK) {
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

func TestConnectionTable(t *testing.T) {
	for _, c := range []struct {
		tenants, size int
		level         Level
		fix           string
	}{
		{0, 8192, OK, ""}, {2, 8192, OK, ""}, {3, 0, OK, ""}, // 0 is no limit
		{3, 8192, Warning, "sysctl net.netfilter.nf_conntrack_max=12288, and in /etc/sysctl.d for the next boot"},
		{3, 8191, Warning, "sysctl net.netfilter.nf_conntrack_max=12288, and in /etc/sysctl.d for the next boot"},
	} {
		f := connectionFinding(c.tenants, c.size)
		if f.Level != c.level || f.Fix != c.fix || f.Level == Warning && !strings.Contains(f.Found, ": 2 tenants with 4096 each ") {
			t.Errorf("%d tenants, %d connections: %+v", c.tenants, c.size, f)
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

// TestCounterIsArmsAlone: elsewhere there is no such question.
func TestCounterIsArmsAlone(t *testing.T) {
	for arch, want := range map[string]bool{"arm64": true, "amd64": false} {
		has := slices.ContainsFunc(system{"/", arch}.checks(), func(c Check) bool { return c.Name == "guests' counter" })
		if has != want {
			t.Errorf("%s: %v", arch, has)
		}
	}
}

// TestFindings are those of what a test cannot make a host to be.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name  string
		f     Finding
		want  Level
		found string
	}{
		{"user", userFinding(0), OK, "root"},
		{"user", userFinding(1000), Failure, "uid 1000"},
		{"KVM", kvmFinding(true, "", config.TierKVM), OK, "usable"},
		{"KVM", kvmFinding(false, "cannot use KVM", config.TierSoftware), Note, "does without"},
		{"KVM", kvmFinding(false, "cannot use KVM", ""), Failure, "cannot use KVM"},
		{"KVM", kvmFinding(false, "cannot use KVM", config.TierKVM), Failure, "cannot use KVM"},
		{"cgroups", cgroupFinding("v2", nil), OK, "v2"},
		{"cgroups", cgroupFinding("v1", nil), Warning, "v1"},
		{"cgroups", cgroupFinding("", errors.New("none mounted")), Failure, "none mounted"},
		{"clock", clockFinding(0, 0, nil), OK, "synchronised"},
		{"clock", clockFinding(5, 0, nil), Warning, "not synchronised"},
		{"clock", clockFinding(0, 0x40, nil), Warning, "not synchronised"},
		{"clock", clockFinding(-1, 0, unix.EPERM), Note, "cannot tell"},
	} {
		if c.f.Level != c.want || !strings.Contains(c.f.Found, c.found) || (c.f.Fix != "") != (c.want == Warning || c.want == Failure) {
			t.Errorf("%s: %+v, want %s with %q", c.name, c.f, c.want, c.found)
		}
	}
}

// stateOf makes a state directory with these settings.
func stateOf(t *testing.T, settings string) *lifecycle.Host {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "config.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := lifecycle.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.Store.RunDir) })
	return h
}

// named is the result of one of a host's checks.
func named(t *testing.T, h *lifecycle.Host, name string, fix bool) Result {
	t.Helper()
	for _, c := range Checks(h) {
		if c.Name == name {
			return Run(t.Context(), []Check{c}, fix)[0]
		}
	}
	t.Fatalf("there is no check %q", name)
	return Result{}
}

// TestNeeds looks at state directories and hosts that lack one thing each.
func TestNeeds(t *testing.T) {
	const emulated, none = "tier = \"software\"\n", "[build]\nengine = \"nerdctl\"\n"
	t.Setenv("PATH", t.TempDir()) // no programs, and so no engine
	for _, c := range []struct {
		check, settings string
		want            Level
		found           string
	}{
		{"tier", "", Failure, "not decided"},
		{"tier", emulated, Warning, "no isolation boundary"},
		{"tier", "tier = \"kvm\"\n", OK, "Firecracker"},
		{"VMM", "", Note, "before the tier is decided"},
		{"VMM", emulated, Failure, ""},
		{"VMM", "tier = \"kvm\"\n", Failure, ""},
		{"VMM files", emulated, Note, "Firecracker"},
		{"programs", "", Failure, "missing: ssh, mkfs.ext4, e2fsck, resize2fs, debugfs"},
		{"container engine", none, Failure, "nerdctl"},
		{"builder image", none, Note, "without an engine"},
		{"firewall", "", Failure, "none works"},
		{"disk space", "", OK, "GiB free"},
		{"leftovers", "", OK, "none"},
		{"state directory", "", OK, "root alone"},
	} {
		r := named(t, stateOf(t, c.settings), c.check, false)
		if c.check == "disk space" { // of the machine that tests: any level
			c.want = r.Level
		}
		if r.Level != c.want || !strings.Contains(r.Found, c.found) {
			t.Errorf("%s with %q: %+v, want %s with %q", c.check, c.settings, r, c.want, c.found)
		}
		if r.Fix == "" && (r.Level == Warning || r.Level == Failure) {
			t.Errorf("%s with %q: no fix", c.check, c.settings)
		}
	}
}

// TestFixAHost lets it mend what it may on a host, and look away from the rest.
func TestFixAHost(t *testing.T) {
	h := stateOf(t, "")
	root := h.Store.Root
	if err := errors.Join(os.Chmod(root, 0o755), os.Chown(root, 1000, 1000)); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(root, "tenants", "cut-short") // of a create that was killed
	if err := os.MkdirAll(filepath.Join(cut, "ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state directory", "leftovers"} {
		if r := named(t, h, name, false); r.Level == OK || !r.Fixable || r.Fixed {
			t.Errorf("%s without --fix: %+v", name, r)
		}
		if r := named(t, h, name, true); r.Level != OK || !r.Fixed || r.Error != "" {
			t.Errorf("%s with --fix: %+v", name, r)
		}
		if r := named(t, h, name, true); r.Level != OK || r.Fixed {
			t.Errorf("%s with --fix again: %+v", name, r)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil || st.Mode&0o777 != 0o700 || st.Uid != 0 {
		t.Errorf("the state directory has mode %o, uid %d (%v)", st.Mode, st.Uid, err)
	}
	if _, err := os.Stat(cut); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left behind is still there: %v", err)
	}
	// What is above is not mvm's to change.
	parent := filepath.Dir(root)
	if err := os.Chmod(parent, 0o777); err != nil {
		t.Fatal(err)
	}
	if r := named(t, h, "folders above it", true); r.Level != Warning || r.Fixable || !strings.Contains(r.Fix, parent) {
		t.Errorf("folders above: %+v", r)
	}
}

func TestFix(t *testing.T) {
	bad := tree(t, map[string]string{"sys/kernel/mm/ksm/run": "1"})
	var ksm Check
	for _, c := range bad.checks() {
		if c.Name == "same-page merging" {
			ksm = c
		}
	}
	if r := Run(t.Context(), []Check{ksm}, false)[0]; r.Level != Warning || !r.Fixable || r.Fixed {
		t.Errorf("without --fix: %+v", r)
	}
	if r := Run(t.Context(), []Check{ksm}, true)[0]; r.Level != OK || !r.Fixed {
		t.Errorf("with --fix: %+v", r)
	}
	broken := Check{
		Name: "broken", Run: func(context.Context) Finding { return failure("mend it", "broken") },
		Fix: func(context.Context) error { return errors.New("no tools") },
	}
	r := Run(t.Context(), []Check{broken}, true)
	if r[0].Fixed || r[0].Error != "no tools" || Worst(r) != Failure {
		t.Errorf("a fix that fails: %+v", r)
	}
}

// What a run of the dev microVM left is found; what it has and uses is no
// leftover.
func TestLeftoversOfTheDevMicroVM(t *testing.T) {
	main, err := lifecycle.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(main.Store.RunDir) })
	h := host{main}
	if f := h.leftovers(t.Context()); f.Level != OK {
		t.Fatalf("on a bare host: %+v", f)
	}
	dev, err := store.Open(devvm.Dir(main.Store.Root))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dev.RunDir) })
	spec := tenant.Spec{TenantID: devvm.ID, FlakeRef: "/f"}
	spec.Defaults()
	for phase, want := range map[tenant.Phase]string{tenant.Stopped: "none", tenant.Running: "dev microVM: sweep after its run (the host was restarted)"} {
		state := tenant.State{SchemaVersion: tenant.SchemaVersion, Spec: spec, Phase: phase, BootID: "an earlier one"}
		err := errors.Join(os.MkdirAll(dev.Tenant(devvm.ID).Dir, 0o700), dev.CreateState(devvm.ID, state), dev.SaveSpec(spec))
		if err != nil {
			t.Fatal(err)
		}
		if f := h.leftovers(t.Context()); !strings.Contains(f.Found, want) || (f.Level == OK) != (phase == tenant.Stopped) {
			t.Errorf("%s: %+v", phase, f)
		}
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
