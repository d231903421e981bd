package vmmtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/await"
	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/proc"
	"github.com/auser/mvm/internal/undo"
	"github.com/auser/mvm/internal/vmm"
)

// roleEnv has a test binary be something else than a test.
const roleEnv = "MVM_VMMTEST_ROLE"

// Open makes the driver that a test binary is for. It is a variable because
// the binary starts itself again as a supervisor.
type Open func() (vmm.Driver, error)

// started is what the supervisor's role tells.
type started struct {
	VMM    proc.ID
	Cgroup string
	Dir    string
}

// playSupervisor starts a machine and stays, until it is killed.
func playSupervisor(open Open) error {
	d, err := open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startDeadline)
	defer cancel()
	var u undo.Stack // never run: this process is killed
	w, err := newWorld(ctx, d, insideGuest(), options{}, &u)
	if err != nil {
		return err
	}
	vm, err := d.Start(ctx, w.machine)
	if err != nil {
		return err
	}
	self, err := proc.Self()
	if err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(started{vm.Process().ID(), fmt.Sprintf("mvm-vmmtest-%d", self.PID), w.dir})
	if err != nil {
		return err
	}
	<-vm.Done()
	return fmt.Errorf("the VM ended: %s", vm.Exit().Reason)
}

// testSupervisorDeath: the process that started a VMM is killed, and the VMM
// is gone, jailed or not.
func (s *suite) testSupervisorDeath(t *testing.T) {
	runtime.LockOSThread() // inside() ties the child to this thread
	defer runtime.UnlockOSThread()
	cmd := inside(s.guest)
	cmd.Env = append(cmd.Env, roleEnv+"=supervisor")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var told started
	if err == nil {
		err = json.Unmarshal(line, &told)
	}
	if err == nil && !told.VMM.Alive() {
		err = fmt.Errorf("process %d is not there", told.VMM.PID)
	}
	if kill := cmd.Process.Kill(); kill != nil {
		t.Error(kill)
	}
	if err != nil {
		t.Errorf("the supervisor: %v", err)
	}
	await.Until(t, 10*time.Second, func() (bool, string) { return !told.VMM.Alive(), "the VMM outlives its supervisor" })
	cmd.Wait() // killed, as asked
	if told.Dir != "" {
		// Its mounts went with its namespace: only plain files are left.
		if err := os.RemoveAll(told.Dir); err != nil {
			t.Error(err)
		}
	}
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if group, err := host.Group(told.Cgroup, "acme"); err != nil {
		t.Error(err)
	} else if err := group.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// inheritable takes close-on-exec off.
func inheritable(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	return err
}

func owner(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
