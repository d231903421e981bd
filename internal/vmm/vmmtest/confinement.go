package vmmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/vmm"
)

// testConfinement reads in /proc what the running VMM is left with.
func (s *suite) testConfinement(t *testing.T) {
	// A descriptor without close-on-exec, as a careless library leaves one.
	leak, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	leak.Fd() // blocking mode
	if err := inheritable(leak); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MVM_TEST_SECRET", "must not be inherited")

	w := s.world(t, options{})
	vm := w.boot(t)
	dir := fmt.Sprintf("/proc/%d", vm.Process().ID().PID)

	id := fmt.Sprint(testUID)
	ids := strings.Join([]string{id, id, id, id}, "\t")
	status := readStatus(t, dir)
	wanted := map[string]string{
		"Uid": ids, "Gid": ids, "Groups": "", "NoNewPrivs": "1", "Seccomp": "2",
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
	}
	if os.Getenv(UnfilteredEnv) != "" {
		t.Logf("%s: seccomp filters are not looked for", UnfilteredEnv)
		delete(wanted, "Seccomp")
	}
	for key, want := range wanted {
		if got := status[key]; got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if env, err := os.ReadFile(dir + "/environ"); err != nil || len(env) != 0 {
		t.Errorf("environment = %q, %v", env, err)
	}
	if cmdline, err := os.ReadFile(dir + "/cmdline"); err != nil || !strings.Contains(string(cmdline), "acme") {
		t.Errorf("process %d is not the VMM: %q, %v", vm.Process().ID().PID, cmdline, err)
	}
	if ours, theirs := session(t, "/proc/self"), session(t, dir); ours == theirs {
		t.Errorf("it is in the caller's session %s", ours)
	}
	if limits, err := os.ReadFile(dir + "/limits"); err != nil || !coreLimited(string(limits)) {
		t.Errorf("core dumps are not off: %v\n%s", err, limits)
	}
	if cgroups, err := os.ReadFile(dir + "/cgroup"); err != nil || !strings.Contains(string(cgroups), "/acme") {
		t.Errorf("cgroups: %v\n%s", err, cgroups)
	}
	w.checkRoot(t, dir)
	checkRoom(t, dir)
	checkNamespaces(t, dir, s.driver.Name() == "qemu")
	checkDescriptors(t, dir, vm)
}

func readStatus(t *testing.T, dir string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(dir + "/status")
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.TrimSpace(value)
	}
	return status
}

func session(t *testing.T, dir string) string {
	t.Helper()
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return words[3]
}

func coreLimited(limits string) bool {
	for line := range strings.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			words := strings.Fields(rest)
			return words[0] == "1" && words[1] == "1"
		}
	}
	return false
}

// checkRoot: its root is the jail, and what belongs to the host is not in it.
func (w *world) checkRoot(t *testing.T, dir string) {
	t.Helper()
	root := dir + "/root"
	if _, err := os.Stat(root + "/fc.final.json"); err != nil {
		t.Errorf("its root is not the jail: %v", err)
	}
	for _, hidden := range []string{"/proc", "/sys", "/etc/passwd", "/root", "/home", "/var", "/tmp"} {
		if _, err := os.Lstat(root + hidden); err == nil {
			t.Errorf("%s is in its jail", hidden)
		}
	}
	for _, shared := range []string{w.jail.Kernel, w.jail.Rootfs} {
		info, err := os.Stat(shared)
		if err != nil {
			t.Fatal(err)
		}
		if owner(info) != 0 {
			t.Errorf("%s was chowned", shared)
		}
	}
}

// checkRoom: where it may make files, there is room for few. What is mounted
// there is its own, so it fills nothing of the host's.
func checkRoom(t *testing.T, dir string) {
	t.Helper()
	info, err := os.ReadFile(dir + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	places := 0
	for line := range strings.Lines(string(info)) {
		words := strings.Fields(line)
		at, options := dir+"/root"+words[4], strings.Split(words[5], ",")
		if place, err := os.Stat(at); err != nil || !place.IsDir() || !slices.Contains(options, "rw") {
			continue
		}
		var disk unix.Statfs_t
		if err := unix.Statfs(at, &disk); err != nil {
			t.Fatal(err)
		}
		if size := disk.Blocks * uint64(disk.Bsize); disk.Type != unix.TMPFS_MAGIC || size > 64<<20 || disk.Files > 16384 {
			t.Errorf("it may write to %s: %d MiB and %d files", words[4], size>>20, disk.Files)
		}
		places++
	}
	if places < 2 {
		t.Errorf("only %d writable places were found in\n%s", places, info)
	}
}

// checkNamespaces: it shares no IPC objects with anybody and, where it is handed
// its TAP, sees no network beside that.
func checkNamespaces(t *testing.T, dir string, networkless bool) {
	t.Helper()
	shared := func(kind string) bool {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.Readlink(dir + "/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		return ours == theirs
	}
	if shared("ipc") {
		t.Error("it shares its IPC namespace")
	}
	if networkless && shared("net") {
		t.Error("it shares its network namespace")
	}
}

// checkDescriptors: it holds pipes, sockets, its devices and the machine's
// files, nothing else.
func checkDescriptors(t *testing.T, dir string, vm vmm.VM) {
	t.Helper()
	entries, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
		if err != nil {
			continue // closed by now
		}
		kind, _, special := strings.Cut(target, ":")
		name := filepath.Base(target)
		known := special && slices.Contains([]string{"pipe", "socket", "anon_inode", "/memfd"}, kind) ||
			slices.Contains([]string{"tun", "kvm", "urandom", "null", "userfaultfd"}, name) ||
			slices.Contains([]string{"rootfs", "data", "rootfs.ext4", "data.ext4", "secrets.ext4", "firecracker.log", "firecracker.metrics"}, name)
		if !known {
			t.Errorf("descriptor %s of process %d is %s", e.Name(), vm.Process().ID().PID, target)
		}
	}
}
