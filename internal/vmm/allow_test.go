package vmm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const allowEnv = "MVM_VMM_TEST_ALLOW"

// A process that has limited itself gives itself and its VMM larger files with
// CAP_SYS_RESOURCE. Without it, it is told so, and both limits stay.
func TestAllowFile(t *testing.T) {
	if os.Getenv(allowEnv) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestAllowFile$", "-test.v")
		cmd.Env = append(os.Environ(), allowEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const before, after = 64 << 20, 96 << 20
	if err := LimitSelf(before); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "echo ready; read line")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	want := uint64(after)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
	err = AllowFile(&Process{proc: cmd.Process}, after)
	if caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		want = before
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("without the capability: %v", err)
		}
	} else if err != nil {
		t.Error(err)
	}
	limits := fmt.Sprintf("Max file size %d %d bytes", want, want)
	for _, pid := range []int{os.Getpid(), cmd.Process.Pid} {
		said, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil || !strings.Contains(strings.Join(strings.Fields(string(said)), " "), limits) {
			t.Errorf("process %d, want %s: %v\n%s", pid, limits, err, said)
		}
	}
	if err := AllowFile(&Process{proc: cmd.Process}, before); err != nil {
		t.Errorf("what it may have already: %v", err)
	}
}
