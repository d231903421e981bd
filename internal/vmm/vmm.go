// Package vmm starts and holds virtual machine monitors.
//
// It owns what a machine is (Machine), the contract that every driver keeps
// (Driver, VM), and the launcher that all of them use, which leaves a VMM as
// little as it needs. It must not know of tenants, of the state directory, or
// of how disks, networks and cgroups come about: it takes plain values.
package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/vmm/jail"
)

// ErrUnsupported is what a VM answers to a request that its VMM does not know.
var ErrUnsupported = errors.New("not supported by this VMM")

// A Driver starts machines with one kind of VMM.
type Driver interface {
	// Name is firecracker or qemu.
	Name() string
	// Version is that of the installed VMM.
	Version(ctx context.Context) (string, error)
	// Needs are the files and devices of the host that the VMM itself needs
	// inside its jail. The machine's own files are not among them.
	Needs() (jail.Needs, error)
	// OverheadMiB is how much memory the VMM may take on top of its guest's.
	OverheadMiB(cfg fcconfig.Config) int
	// Start returns when the machine runs, or with an error and nothing left
	// behind. The context bounds the start alone.
	Start(ctx context.Context, m Machine) (VM, error)
}

// Machine is everything that a VMM is started with.
type Machine struct {
	ID       string // the VMM's instance id
	UID, GID int    // whom the VMM runs as; never root
	Jail     string // the jail's root, as jail.Make made it
	Config   fcconfig.Config

	Cgroup Cgroup // nil leaves the VMM in the caller's

	Console io.Writer // the guest's serial console; writes must not block for long
	Log     io.Writer // what the VMM itself has to say; may be nil

	// Record, if not nil, is told the VMM's version before the guest runs. Its
	// error ends the start.
	Record func(version string) error
	// Did, if not nil, is told of each step of Start as it ends.
	Did func(step string, began time.Time)
}

// Loads is the step of Start from the VMM's birth until it can let the guest go:
// what no caller can make shorter.
const Loads = "vmm loads"

// Loaded tells of that step.
func (m Machine) Loaded(began time.Time) {
	if m.Did != nil {
		m.Did(Loads, began)
	}
}

// Recorded tells of the version.
func (m Machine) Recorded(version string) error {
	if m.Record == nil {
		return nil
	}
	return m.Record(version)
}

// Cgroup places a process: start runs on the calling thread, and what it
// starts with attr is in the cgroup from its first instruction on.
type Cgroup interface {
	Place(attr *syscall.SysProcAttr, start func() error) error
}

// A VM is a machine that was started.
type VM interface {
	// Process is the VMM's.
	Process() *Process
	// Done is closed when the VMM has ended and all that it wrote was handed
	// on.
	Done() <-chan struct{}
	// Exit says how it ended. It is valid once Done is closed.
	Exit() Exit
	// Status asks the VMM.
	Status(ctx context.Context) (Status, error)
	// RequestStop asks the guest to shut down and does not wait for it. It
	// fails with ErrUnsupported where only the guest's own means are left.
	RequestStop(ctx context.Context) error
	// Pause and Resume halt the guest's CPUs and let them go on.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// Resize shows the guest that the file behind a drive has grown to size
	// bytes. It may be repeated.
	Resize(ctx context.Context, drive string, size int64) error
	// Kill ends the VMM at once. It does not wait; killing the dead is no
	// error.
	Kill() error
}

// Counters are what a VMM has counted of its guest since it was started.
type Counters struct {
	Disks map[string]DiskCounters `json:"disks"` // by drive: rootfs, data, secrets; those beside them as vdd and so on
}

// DiskCounters are what the guest asked of one disk, whether or not the host
// had it in memory.
type DiskCounters struct {
	ReadBytes    uint64 `json:"read_bytes"`
	WrittenBytes uint64 `json:"written_bytes"`
	Reads        uint64 `json:"reads"`  // operations
	Writes       uint64 `json:"writes"` // operations
	Flushes      uint64 `json:"flushes"`
}

// Counter is a VM whose VMM counts.
type Counter interface {
	Counters(ctx context.Context) (Counters, error)
}

// Status is what a VMM says of its machine.
type Status string

const (
	Running Status = "running"
	Paused  Status = "paused"
	Ended   Status = "ended" // the VMM is gone
	Other   Status = "other" // starting or on its way out
)

// Cause is what ended a machine.
type Cause string

const (
	// GuestEnded is a shutdown, reboot or panic inside the guest: Firecracker
	// cannot tell them apart, QEMU can and says so in the reason.
	GuestEnded Cause = "guest"
	// Killed is a signal from outside: mvm's own, or the kernel's for lack of
	// memory.
	Killed Cause = "killed"
	// Failed is a VMM that gave up.
	Failed Cause = "failed"
)

// Exit is how a VMM ended.
type Exit struct {
	Code   int            // -1 after a signal
	Signal syscall.Signal // 0 unless a signal ended it
	Cause  Cause
	Reason string // for people
	Time   time.Time
}

// PowerButton is a VM that can press its guest's power button, which not every
// guest hears.
type PowerButton interface {
	PowerButton(ctx context.Context) error
}

// Stop asks the guest to shut down, waits, and kills the VMM when grace is
// over or ctx ends. ask is used where the VMM has no way of its own; it may be
// nil. forced says that it came to killing.
func Stop(ctx context.Context, vm VM, grace time.Duration, ask func(context.Context) error) (forced bool, err error) {
	asking, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	go func() { // a guest that is gone answers no more
		select {
		case <-vm.Done():
			cancel()
		case <-asking.Done():
		}
	}()
	persuade(asking, vm, ask)
	select {
	case <-vm.Done(): // the request failed because it was gone
		return false, nil
	default:
	}
	if err := vm.Kill(); err != nil {
		return true, err
	}
	select {
	case <-vm.Done():
		return true, nil
	case <-time.After(killDeadline):
		return true, fmt.Errorf("cannot end the VMM: process %d outlives SIGKILL", vm.Process().ID().PID)
	}
}

// persuade asks the guest until it has ended, ctx ends, or there is no way to
// ask it. A press of the button may go unheard, as by a guest that still boots:
// that one is asked again, ever less often. What was asked once has its time,
// also where it cannot be asked again: it may be about to end.
func persuade(ctx context.Context, vm VM, ask func(context.Context) error) {
	asked := false
	for pause := askAgain; ; pause = min(2*pause, askAgainAtMost) {
		heard, err := request(ctx, vm, ask)
		if err != nil && !asked {
			return
		}
		asked = true
		var again <-chan time.Time
		if !heard {
			again = time.After(pause)
		}
		select {
		case <-again:
		case <-vm.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

const (
	askAgain       = time.Second
	askAgainAtMost = 8 * time.Second
)

// request tries the ways to ask a guest in turn, the surest first. heard is
// false where it may not have heard.
func request(ctx context.Context, vm VM, ask func(context.Context) error) (heard bool, err error) {
	if err = vm.RequestStop(ctx); err == nil {
		return true, nil
	}
	if ask != nil {
		if err = ask(ctx); err == nil {
			return true, nil
		}
	}
	if button, ok := vm.(PowerButton); ok {
		err = button.PowerButton(ctx)
	}
	return false, err
}

// killDeadline is how long a killed VMM may take to be gone. It is long,
// because a large guest's memory has to be given back.
const killDeadline = 30 * time.Second
