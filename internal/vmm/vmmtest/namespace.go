package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/vmm"
)

// insideEnv tells a test binary that it has its namespaces, and which guest
// to start.
const insideEnv = "MVM_VMMTEST_INSIDE"

// Main runs a package's tests as a supervisor runs: as the first process of a
// PID namespace, with a mount namespace of its own and the host's /proc; and
// in a network namespace, so that nothing of the host's network is touched.
// Use it as the body of TestMain. open makes the driver under test.
func Main(m *testing.M, open Open) {
	if os.Getenv(insideEnv) != "" {
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "vmmtest:", err)
			os.Exit(1)
		}
		if os.Getenv(roleEnv) != "" {
			fmt.Fprintln(os.Stderr, "vmmtest: supervisor:", playSupervisor(open))
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "vmmtest: these tests start jailed VMMs and need root")
		os.Exit(1)
	}
	// Made out here, where there is a network to download it from.
	guest, err := FindGuest(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmmtest:", err)
		os.Exit(1)
	}
	cmd := inside(guest, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, "vmmtest: cannot enter namespaces:", err)
		os.Exit(1)
	}
}

// inside is this test binary in namespaces of its own.
func inside(g Guest, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideEnv+"="+g.Kernel+":"+g.Initrd)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // the death signal is the thread's
	return cmd
}

// insideGuest is the guest that inside was given.
func insideGuest() Guest {
	kernel, initrd, _ := strings.Cut(os.Getenv(insideEnv), ":")
	return Guest{kernel, initrd}
}

// UnfilteredEnv says that the Firecracker under test was built without seccomp
// filters, as debug builds are.
const UnfilteredEnv = "MVM_TEST_UNFILTERED"

// PatienceEnv multiplies every deadline: nested emulation is slow.
const PatienceEnv = "MVM_TEST_PATIENCE"

// startDeadline bounds how long a guest takes to its init, also on a busy
// machine and under emulation.
var startDeadline = 90 * time.Second * time.Duration(patience())

func patience() int {
	n, err := strconv.Atoi(os.Getenv(PatienceEnv))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the mounts private: %w", err)
	}
	return vmm.LimitSelf(4*dataSize, grownSize)
}

// NotRun skips a test that this host cannot run, and makes sure that it is
// seen.
func NotRun(t *testing.T, what, reason string) {
	t.Helper()
	fmt.Fprintf(os.Stderr, "\n*** NOT RUN: %s: %s ***\n\n", what, reason)
	t.Skipf("not run: %s", reason)
}
