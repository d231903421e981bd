package network

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/await"
)

const isolatedTest = "MVM_ISOLATED_TEST"

// isolated runs the calling test (or benchmark) again in a process with
// network and mount namespaces of its own, and says whether this is that
// process:
//
//	if !isolated(t) {
//		return
//	}
func isolated(t testing.TB) bool {
	t.Helper()
	if os.Getenv(isolatedTest) == t.Name() {
		prepareNamespace(t)
		return true
	}
	if test, ok := t.(*testing.T); ok {
		test.Parallel() // it is alone in its namespaces
	}
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	args := []string{"-test.run=" + pattern, "-test.v", "-test.timeout=150s"}
	if _, bench := t.(*testing.B); bench {
		args = []string{"-test.run=^$", "-test.bench=" + pattern, "-test.benchtime=1x", "-test.v"}
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), isolatedTest+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	out, err := cmd.CombinedOutput()
	t.Logf("in its own namespaces, %.1fs:\n%s", time.Since(start).Seconds(), out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), t.Name()) {
		t.Fatal("the test did not run in its namespaces")
	}
	return false
}

// prepareNamespace makes the namespaces look like a host of their own:
// forwarding off, nothing of the real host's /run, its own /sys.
func prepareNamespace(t testing.TB) {
	t.Helper()
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"tmpfs", "/run", "tmpfs", 0},
		{"/sys/fs/cgroup", "/mnt", "", unix.MS_BIND | unix.MS_REC}, // container engines need it
		{"sysfs", "/sys", "sysfs", 0},
		{"/mnt", "/sys/fs/cgroup", "", unix.MS_BIND | unix.MS_REC},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			t.Fatalf("cannot mount %s: %v", m.target, err)
		}
	}
	command(t, "ip", "link", "set", "lo", "up")
	write(t, "/proc/sys/net/ipv4/ip_forward", "0")
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// commands runs one command per line.
func commands(t testing.TB, lines string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		words := strings.Fields(line)
		command(t, words[0], words[1:]...)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	await.Until(t, 5*time.Second, func() (bool, string) { return condition(), "it never came true that " + what })
}
