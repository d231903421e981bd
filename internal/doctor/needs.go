package doctor

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/devvm"
	"github.com/auser/mvm/internal/diskspace"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/firecracker"
	"github.com/auser/mvm/internal/vmm/firecracker/install"
)

// host is a state directory and its settings, with the checks that concern
// them.
type host struct{ *lifecycle.Host }

// needs are the checks of what mvm itself wants.
func needs(h *lifecycle.Host) []Check {
	d := host{h}
	return []Check{
		{Name: "user", Run: func(context.Context) Finding { return userFinding(os.Geteuid()) }},
		{Name: "state directory", Run: d.stateDir, Fix: d.closeStateDir},
		{Name: "folders above it", Run: d.above},
		{Name: "user ids", Run: d.userIDs},
		{Name: "disk space", Run: d.disk},
		{Name: "file system", Run: d.fileSystem},
		{Name: "fs-verity", Run: d.verity},
		{Name: "KVM", Run: func(context.Context) Finding {
			usable, why := vmm.ProbeKVM()
			return kvmFinding(usable, why, h.Config.Tier)
		}},
		{Name: "tier", Run: d.tier},
		{Name: "VMM", Run: d.vmm},
		{Name: "VMM files", Run: d.vmmFiles},
		{Name: "huge page pool", Run: d.hugePagePool},
		{Name: "programs", Run: d.programs},
		{Name: "TAP devices", Run: d.tun},
		{Name: "firewall", Run: d.firewall},
		{Name: "connection table", Run: d.connectionTable},
		{Name: "cgroups", Run: func(context.Context) Finding {
			groups, err := cgroup.Detect()
			if err != nil {
				return cgroupFinding("", err)
			}
			return cgroupFinding(groups.Mode(), nil)
		}},
		{Name: "container engine", Run: d.engine},
		{Name: "builder image", Run: d.builderImage},
		{Name: "leftovers", Run: d.leftovers, Fix: func(ctx context.Context) error {
			_, err := devvm.Reconcile(ctx, h, false)
			return err
		}},
	}
}

func userFinding(uid int) Finding {
	if uid == 0 {
		return ok("root")
	}
	return failure("run mvm as root, by sudo", "uid %d may not make TAPs, cgroups and jails", uid)
}

func (h host) stateDir(context.Context) Finding {
	var st unix.Stat_t
	if err := unix.Stat(h.Store.Root, &st); err != nil {
		return failure("make it readable for root", "cannot look at %s: %v", h.Store.Root, err)
	}
	if mode := st.Mode & 0o777; mode&0o077 != 0 || int(st.Uid) != os.Geteuid() {
		return failure(fmt.Sprintf("chown root:root %s; chmod 0700 %[1]s", h.Store.Root), "%s has mode %#o and belongs to uid %d: others may read or change tenants", h.Store.Root, mode, st.Uid)
	}
	return ok("%s belongs to root alone", h.Store.Root)
}

func (h host) closeStateDir(context.Context) error {
	return errors.Join(os.Chown(h.Store.Root, os.Geteuid(), os.Getegid()), os.Chmod(h.Store.Root, 0o700))
}

// above looks at the folders above the state directory: who may write there may
// replace everything below.
func (h host) above(context.Context) Finding {
	weak, err := replaceable(filepath.Dir(h.Store.Root))
	switch {
	case err != nil:
		return failure("make it readable for root", "%v", err)
	case weak != "":
		return warning(fmt.Sprintf("chown root:root %s; chmod go-w %[1]s", weak), "%s, above the state directory, may be changed by others than root", weak)
	}
	return ok("only root may change them")
}

func (h host) disk(context.Context) Finding {
	space, err := diskspace.Of(h.Store.Root)
	if err != nil {
		return failure("", "cannot look at the disk of %s: %v", h.Store.Root, err)
	}
	return diskFinding(space)
}

func diskFinding(s diskspace.Space) Finding {
	text := fmt.Sprintf("%d GiB free of %d GiB", s.Free>>30, s.Total>>30)
	if s.Free < 10<<30 {
		text = fmt.Sprintf("%d MiB free of %d MiB", s.Free>>20, s.Total>>20)
	}
	const fix = "free some: mvm gc removes what no tenant uses"
	switch {
	case s.Free < 1<<30:
		return failure(fix, "%s: builds and volumes will fail", text)
	case s.FewFiles():
		return failure(fix, "fewer than 1 %% of the inodes are free")
	case s.Free < 10<<30:
		return warning(fix, "%s: a build may need more", text)
	}
	return ok("%s", text)
}

// fileSystem tries whether files can share blocks, in a file of its own.
func (h host) fileSystem(context.Context) (f Finding) {
	from, err := os.CreateTemp(h.Store.Root, ".doctor-")
	if err != nil {
		return failure("mount it writable", "cannot write to %s: %v", h.Store.Root, err)
	}
	defer func() {
		if err := errors.Join(from.Close(), os.Remove(from.Name())); err != nil {
			f = failure("", "cannot remove a file in %s: %v", h.Store.Root, err)
		}
	}()
	if _, err := from.Write(make([]byte, 4096)); err != nil {
		return failure("free some space", "cannot write to %s: %v", h.Store.Root, err)
	}
	to, err := os.CreateTemp(h.Store.Root, ".doctor-")
	if err != nil {
		return failure("", "cannot write to %s: %v", h.Store.Root, err)
	}
	defer os.Remove(to.Name())
	defer to.Close()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		return note("files cannot share blocks (reflink): snapshots of volumes are full copies; XFS and btrfs can")
	}
	return ok("files can share blocks (reflink): snapshots of volumes take an instant")
}

// verity asks what a file's measure is: where there is none, the answer tells
// whether there could be one.
func (h host) verity(context.Context) Finding {
	dir, err := os.Open(h.Store.Root)
	if err != nil {
		return failure("make it readable for root", "cannot look at %s: %v", h.Store.Root, err)
	}
	defer dir.Close()
	var digest [2 + 2 + 64]byte // struct fsverity_digest with room for SHA-512
	binary.NativeEndian.PutUint16(digest[2:], 64)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&digest)))
	return verityFinding(errno)
}

func verityFinding(errno unix.Errno) Finding {
	switch errno {
	case 0, unix.ENODATA:
		return ok("the file system has it; mvm itself holds artifacts to their checksums")
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.EINVAL:
		return note("the file system lacks it; mvm itself holds artifacts to their checksums")
	}
	return note("cannot tell: %v", errno)
}

func kvmFinding(usable bool, why, tier string) Finding {
	switch {
	case usable:
		return ok("usable")
	case tier == config.TierSoftware:
		return note("%s; the software tier does without", why)
	}
	return failure("use a host with hardware virtualisation, or for trying out: mvm setup --tier software", "%s", why)
}

func (h host) tier(context.Context) Finding {
	switch h.Config.Tier {
	case config.TierKVM:
		return ok("kvm: Firecracker is the isolation boundary")
	case config.TierSoftware:
		return warning("run untrusted workloads on a host with KVM", "software: guests are emulated, which is slow and no isolation boundary to rely on")
	}
	return failure("mvm setup", "not decided yet")
}

func (h host) vmm(ctx context.Context) Finding {
	if h.Config.Tier == "" {
		return note("not looked for before the tier is decided")
	}
	driver, err := supervisor.Driver(h.Config)
	fix := "install Firecracker and its jailer, from one release, into /usr/local/bin"
	if h.Config.Tier == config.TierSoftware {
		fix = "apt-get install qemu-system-x86"
	}
	if err != nil {
		return failure(fix, "%v", err)
	}
	version, err := driver.Version(ctx)
	if err != nil {
		return failure(fix, "%v", err)
	}
	if h.Config.Tier == config.TierKVM && h.Config.VMM.NoJailer {
		return warning("take vmm.no_jailer out of "+h.Store.ConfigFile(), "%s %s, without its jailer", driver.Name(), version)
	}
	fc, isFirecracker := driver.(*firecracker.Driver)
	if !isFirecracker {
		return ok("%s %s", driver.Name(), version)
	}
	jailer, err := install.ProgramVersion(ctx, fc.Jailer)
	if err != nil {
		return failure(fix, "%v", err)
	}
	return releaseFinding(version, jailer)
}

// releaseFinding is about versions of Firecracker and its jailer, which are
// made for one another.
func releaseFinding(version, jailer string) Finding {
	pin := install.Pins[0].Version
	switch {
	case jailer != version:
		return failure("mvm setup --firecracker "+pin, "firecracker %s with the jailer of %s: both must be of one release", version, jailer)
	case outOfSupport(version, pin):
		return warning("mvm setup --firecracker "+pin, "firecracker %s with its jailer: no fixes are made for it any more", version)
	case version != pin:
		return advice("mvm setup --firecracker "+pin, "firecracker %s with its jailer; mvm is made for %s", version, pin)
	}
	return ok("firecracker %s with its jailer", version)
}

// outOfSupport says whether version is of a minor release that was no longer
// mended when latest was the newest: fixes are made for the last two.
func outOfSupport(version, latest string) bool {
	v, err := fcconfig.ParseVersion(version)
	if err != nil {
		return false // the driver says what is wrong with it
	}
	last, err := fcconfig.ParseVersion(latest)
	return err == nil && v.Less(fcconfig.Version{last[0], last[1] - 1, 0})
}

// hugePagePool adds up what tenants ask for: one that finds the pool too small
// does not start.
func (h host) hugePagePool(context.Context) Finding {
	ids, err := h.Store.IDs()
	if err != nil {
		return failure("make it readable for root", "%v", err)
	}
	want := 0
	for _, id := range ids {
		spec, err := h.Store.LoadSpec(id)
		if err != nil {
			return note("cannot tell: %v", err)
		}
		if spec.HugePages {
			want += spec.MemMiB
		}
	}
	pool, err := vmm.HugePagesMiB()
	if err != nil {
		return note("cannot tell: %v", err)
	}
	return poolFinding(want, pool)
}

// poolFinding compares MiB that tenants want with those that are reserved.
func poolFinding(want, pool int) Finding {
	const pageMiB = 2
	switch {
	case want > pool:
		return warning(fmt.Sprintf("sysctl vm.nr_hugepages=%d, and in /etc/sysctl.d for the next boot", (want+pageMiB-1)/pageMiB),
			"tenants want %d MiB of huge pages, %d MiB are reserved: not all can run at once", want, pool)
	case want > 0:
		return ok("tenants want %d MiB of huge pages, %d MiB are reserved", want, pool)
	case pool > 0:
		return advice("sysctl vm.nr_hugepages=0, if nothing else uses them", "%d MiB are reserved, and no tenant uses huge pages", pool)
	}
	return ok("no tenant uses huge pages")
}

// connectionTable is one for the host and all tenants: filled up, it has no room
// for anybody's next connection.
func (h host) connectionTable(context.Context) Finding {
	ids, err := h.Store.IDs()
	if err != nil {
		return failure("make it readable for root", "%v", err)
	}
	data, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if errors.Is(err, fs.ErrNotExist) {
		return note("the kernel has none until the first tenant's network is made")
	}
	if err != nil {
		return note("cannot tell: %v", err)
	}
	size, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return note("cannot tell: %v", err)
	}
	return connectionFinding(len(ids), size)
}

// connectionFinding compares what tenants may take with what there is.
func connectionFinding(tenants, size int) Finding {
	if size == 0 {
		return ok("the kernel sets it no limit, and mvm %d connections for each tenant", network.FlowLimit)
	}
	if want := tenants * network.FlowLimit; want > size {
		return warning(fmt.Sprintf("sysctl net.netfilter.nf_conntrack_max=%d, and in /etc/sysctl.d for the next boot", want),
			"it holds %d connections: %d tenants with %d each leave the host and the others none", size, (size+network.FlowLimit-1)/network.FlowLimit, network.FlowLimit)
	}
	return ok("it holds %d connections, %d for each tenant", size, network.FlowLimit)
}

// vmmFiles are what the jailer starts as root: who can replace one of them, or
// a folder above, becomes root.
func (h host) vmmFiles(context.Context) Finding {
	driver, err := supervisor.Driver(h.Config)
	fc, isFirecracker := driver.(*firecracker.Driver)
	if err != nil || !isFirecracker {
		return note("only looked at where guests run in Firecracker")
	}
	for _, path := range []string{fc.Binary, fc.Jailer} {
		if path == "" {
			continue // no jailer is wanted
		}
		weak, err := replaceable(path)
		if err != nil {
			return failure("make it readable for root", "%v", err)
		}
		if weak != "" {
			return failure(fmt.Sprintf("chown root:root %s; chmod go-w %[1]s", weak), "%s may be changed by others than root", weak)
		}
	}
	return ok("Firecracker and its jailer belong to root alone")
}

// replaceable is the file at path, or the first folder above it, that others
// than root may replace; "" if there is none.
func replaceable(path string) (string, error) {
	for at := path; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			return "", fmt.Errorf("cannot look at %s: %w", at, err)
		}
		sticky := st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&unix.S_ISVTX != 0
		if st.Uid != 0 || st.Mode&0o022 != 0 && !sticky {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", nil
		}
	}
}

func (h host) programs(context.Context) Finding {
	packages := map[string]string{"ssh": "openssh-client", "mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "resize2fs": "e2fsprogs", "debugfs": "e2fsprogs"}
	var missing, from []string
	for _, name := range []string{"ssh", "mkfs.ext4", "e2fsck", "resize2fs", "debugfs"} {
		if _, err := exec.LookPath(name); err != nil {
			missing, from = append(missing, name), append(from, packages[name])
		}
	}
	if len(missing) == 0 {
		return ok("ssh and e2fsprogs are there")
	}
	return failure("apt-get install "+strings.Join(from, " "), "missing: %s", strings.Join(missing, ", "))
}

func (h host) tun(context.Context) Finding {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return failure("modprobe tun", "cannot use /dev/net/tun: %v", err)
	}
	if err := f.Close(); err != nil {
		return failure("", "cannot use /dev/net/tun: %v", err)
	}
	return ok("usable")
}

func (h host) firewall(ctx context.Context) Finding {
	all, err := network.Backends(ctx, supervisor.NetworkConfig(h.Store, h.Config))
	if err != nil {
		return failure("see "+h.Store.ConfigFile(), "%v", err)
	}
	var usable, why []string
	for _, b := range all {
		if b.Usable {
			usable = append(usable, b.Name)
		} else {
			why = append(why, fmt.Sprintf("%s: %v", b.Name, b.Err))
		}
	}
	switch {
	case len(usable) == 0:
		return failure("apt-get install nftables", "none works: %s", strings.Join(why, "; "))
	case usable[0] != "nft":
		return note("%s; %s", usable[0], strings.Join(why, "; "))
	}
	return ok("%s", strings.Join(usable, ", "))
}

func cgroupFinding(mode string, err error) Finding {
	if err != nil {
		return failure("mount -t cgroup2 none /sys/fs/cgroup", "%v", err)
	}
	if mode != "v2" {
		return warning("boot with systemd.unified_cgroup_hierarchy=1", "%s: works; v2 limits more exactly", mode)
	}
	return ok("v2")
}

func (h host) engine(ctx context.Context) Finding {
	e, err := h.Engine(ctx, "")
	if err != nil {
		return failure(cmp.Or(fault.Hint(err), "apt-get install docker.io"), "%v", err)
	}
	return ok("%s %s", e.Name, e.Version)
}

func (h host) builderImage(ctx context.Context) Finding {
	e, err := h.Engine(ctx, "")
	if err != nil {
		return note("not looked for without an engine")
	}
	ref, err := h.BuilderImage()
	if err != nil {
		return failure("mvm builder pull", "%v", err)
	}
	image, err := build.ShowImage(ctx, e, ref)
	if err != nil {
		return failure("mvm builder pull", "%v", err)
	}
	if !image.Present {
		return warning("mvm builder pull, or where no registry can be reached: mvm builder build-local", "%s is not there yet", image.Ref)
	}
	return ok("%s", image.Ref)
}

func (h host) leftovers(ctx context.Context) Finding {
	acts, err := devvm.Reconcile(ctx, h.Host, true)
	if err != nil {
		return failure("mvm reconcile says more", "%v", err)
	}
	if len(acts) == 0 {
		return ok("none")
	}
	list := make([]string, len(acts))
	for i, a := range acts {
		list[i] = a.String()
	}
	return warning("mvm reconcile", "%d to do: %s", len(acts), strings.Join(list, "; "))
}
