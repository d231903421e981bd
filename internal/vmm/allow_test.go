package vmm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const allowEnv = "MVM_VMM_TEST_ALLOW"

// A process that has limited itself gives itself and its VMM, which is another
// user's, larger files: with CAP_SYS_RESOURCE as large as it likes, without it
// up to what was left to it. Beyond, it is told so, and both limits stay.
func TestAllowFile(t *testing.T) {
	if os.Getenv(allowEnv) == "" {
		for name, drop := range map[string]bool{"as it is": false, "without the capability": true} {
			t.Run(name, func(t *testing.T) {
				runtime.LockOSThread() // for good: what it drops is dropped for its children
				if drop {
					if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_RESOURCE, 0, 0, 0); err != nil {
						t.Fatal(err)
					}
				}
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestAllowFile$", "-test.v")
				cmd.Env = append(os.Environ(), allowEnv+"=1")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		return
	}
	mighty, err := canRaiseLimits()
	if err != nil {
		t.Fatal(err)
	}
	const before, after, most, beyond = 64 << 20, 96 << 20, 128 << 20, 256 << 20
	if err := LimitSelf(before, most); err != nil {
		t.Fatal(err)
	}
	p, err := Launch{Path: "/bin/sleep", Args: []string{"60"}, UID: 65534, GID: 65534}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer p.proc.Kill()
	have := func(soft, hard int) {
		t.Helper()
		want := fmt.Sprintf("Max file size %d %d bytes", soft, hard)
		for _, pid := range []int{os.Getpid(), p.proc.Pid} {
			said, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
			if err != nil || !strings.Contains(strings.Join(strings.Fields(string(said)), " "), want) {
				t.Errorf("process %d, want %s: %v\n%s", pid, want, err, said)
			}
		}
	}
	if mighty {
		have(before, before)
	} else {
		have(before, most)
	}
	for _, size := range []uint64{after, after, before} { // it never lowers them
		if err := AllowFile(p, size); err != nil {
			t.Error(err)
		}
	}
	err = AllowFile(p, beyond)
	switch {
	case mighty:
		have(beyond, beyond)
	case !errors.Is(err, unix.EPERM):
		t.Errorf("beyond what was left, without the capability: %v", err)
	default:
		have(after, most)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil || !strings.Contains(string(status), "\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n") {
		t.Errorf("the thread's ids have changed: %v\n%s", err, status)
	}
}
