package jail

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const inside = "MVM_JAIL_TEST_INSIDE"

// TestMain runs the tests in a mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		panic(err)
	}
}

func testSpec(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	s := Spec{
		Root: Root(filepath.Join(dir, "a b"), "acme"), UID: 930_000, GID: 930_000,
		Kernel: filepath.Join(dir, "kernel"), Rootfs: filepath.Join(dir, "rootfs"), Data: filepath.Join(dir, "data"),
		Needs: Needs{
			Binds:   []Bind{{"/usr", "/usr"}},
			Devices: []string{"/dev/null", "/dev/net/tun"},
			Links:   []Link{{"/lib", "usr/lib"}},
		},
	}
	for _, f := range []string{s.Kernel, s.Rootfs, s.Data} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := Remove(s.Root); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestMake(t *testing.T) {
	s := testSpec(t)
	for range 2 { // also over the one that is there
		if err := Make(s); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]uintptr{
		Kernel: unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC,
		Rootfs: unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC,
		Data:   unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC,
		Run:    unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC,
		"/usr": unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID,
		"/":    unix.ST_NOSUID,
	} {
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Join(s.Root, path), &st); err != nil {
			t.Fatal(err)
		}
		const looked = unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC
		if got := uintptr(st.Flags) & looked; got != want {
			t.Errorf("%s is mounted with %#x, want %#x", path, got, want)
		}
	}
	for _, dev := range s.Needs.Devices {
		var here, there unix.Stat_t
		if err := errors.Join(unix.Stat(dev, &here), unix.Stat(filepath.Join(s.Root, dev), &there)); err != nil {
			t.Fatal(err)
		}
		if here.Rdev != there.Rdev || there.Uid != 930_000 || there.Mode&0o777 != 0o600 {
			t.Errorf("%s = %+v", dev, there)
		}
	}
	if target, err := os.Readlink(filepath.Join(s.Root, "lib")); err != nil || target != "usr/lib" {
		t.Errorf("lib -> %q, %v", target, err)
	}
	if err := os.WriteFile(filepath.Join(s.Root, Data), []byte("written"), 0); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(s.Data); err != nil || string(data) != "written" {
		t.Errorf("data = %q, %v", data, err)
	}
}

// Secrets are in the jail's memory: swap would bring them to a disk.
func TestMemoryIsKeptOutOfSwap(t *testing.T) {
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(kernel.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	s := testSpec(t)
	if err := Make(s); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		words := strings.Fields(line)
		if words[0] != "mvm-jail" || unescape(words[1]) != s.Root {
			continue
		}
		can := major > 6 || major == 6 && minor >= 4
		if has := slices.Contains(strings.Split(words[3], ","), "noswap"); has != can {
			t.Errorf("Linux %d.%d mounts it with %s", major, minor, words[3])
		}
		return
	}
	t.Error("the jail's tmpfs is not mounted")
}

func TestRemoveLeavesTheHostsFiles(t *testing.T) {
	s := testSpec(t)
	if err := Make(s); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(s.Root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(s.Root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the jail's folder: %v", err)
	}
	for _, f := range []string{s.Kernel, s.Rootfs, s.Data, "/usr/bin"} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(info), filepath.Dir(s.Data)) {
		t.Errorf("mounts are left: %v\n%s", err, info)
	}
}

func TestMakeLeavesNothingWhenItFails(t *testing.T) {
	for name, breakIt := range map[string]func(*Spec){
		"no rootfs":    func(s *Spec) { s.Rootfs += "-none" },
		"no initrd":    func(s *Spec) { s.Initrd = "/none" },
		"no device":    func(s *Spec) { s.Needs.Devices = []string{"/dev/none"} },
		"not a device": func(s *Spec) { s.Needs.Devices = []string{"/etc/passwd"} },
		"root's":       func(s *Spec) { s.UID = 0 },
	} {
		s := testSpec(t)
		breakIt(&s)
		if err := Make(s); err == nil {
			t.Errorf("%s: it was made", name)
		}
		if _, err := os.Stat(s.Root); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the jail's folder: %v", name, err)
		}
	}
}

func TestProgram(t *testing.T) {
	at, needs, err := Program("/bin/busybox") // static
	if err != nil || at != "/busybox" || len(needs.Binds) != 1 {
		t.Errorf("a static program: %s, %+v, %v", at, needs, err)
	}
	at, needs, err = Program("/bin/sh")
	if err != nil || !strings.HasPrefix(at, "/usr/") || len(needs.Binds) < 1 || needs.Binds[0].Host != "/usr" {
		t.Errorf("a dynamic program: %s, %+v, %v", at, needs, err)
	}
	if _, _, err := Program("/etc/passwd"); err == nil {
		t.Error("/etc/passwd is a program")
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\011c\134d\04`); got != "/a b\tc\\d\\04" {
		t.Errorf("unescape = %q", got)
	}
}
