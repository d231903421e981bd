package vmm

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const crashEnv = "MVM_VMM_TEST_CRASH"

// A process that has limited itself leaves no core dump, nor does what it
// starts. The kernel itself says whether it made one.
func TestNoCoreDumps(t *testing.T) {
	if how := os.Getenv(crashEnv); how != "" {
		if how == "limited" {
			if err := LimitSelf(1<<20, 0); err != nil {
				t.Fatal(err)
			}
		}
		t.Fatal(syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -SEGV $$"}, nil))
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	dumped := func(how string) bool {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoCoreDumps$")
		cmd.Env, cmd.Dir = append(os.Environ(), crashEnv+"="+how), t.TempDir()
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		status := exit.Sys().(syscall.WaitStatus)
		if status.Signal() != syscall.SIGSEGV {
			t.Fatalf("%s: %v", how, err)
		}
		if entries, err := os.ReadDir(cmd.Dir); err != nil || how == "limited" && len(entries) > 0 {
			t.Errorf("%s: left %v, %v", how, entries, err)
		}
		return status.CoreDump()
	}
	if limit.Max == unix.RLIM_INFINITY {
		old := limit
		limit.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil {
			t.Fatal(err)
		}
		defer unix.Setrlimit(unix.RLIMIT_CORE, &old)
	}
	if dumped("limited") {
		t.Error("it dumped core")
	}
	t.Logf("without the limit it does: %v", dumped("free"))
}
