// Package qemu drives QEMU as a VMM: the software tier, for hosts without
// usable KVM.
//
// It owns the translation of a final Firecracker configuration into a QEMU
// command line for the microvm (x86-64) or virt (aarch64) machine, and the
// talk with QEMU over its machine protocol (QMP). Emulation runs the same
// guests; it is not the isolation boundary that Firecracker is.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/jail"
)

const (
	// codeBufferMiB is what QEMU may take for translated code.
	codeBufferMiB = 64
	// baseOverheadMiB is QEMU itself: its heap, its threads' stacks, the
	// libraries' private pages and the page cache of its disks.
	baseOverheadMiB = 128
)

// Driver starts machines with QEMU. It does not change once made.
type Driver struct {
	binary string
	accel  string
	tsc    tsc
}

// New is a driver for the given binary; "" looks the one for this host's CPU up
// in PATH. accel is TCG or KVM.
func New(binary, accel string) (*Driver, error) {
	if binary == "" {
		binary = "qemu-system-x86_64"
		if runtime.GOARCH == "arm64" {
			binary = "qemu-system-aarch64"
		}
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, fmt.Errorf("cannot find QEMU: %w", err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, fmt.Errorf("cannot find QEMU: %w", err)
	}
	// Whoever starts a machine prepares it first: that is time enough to measure.
	return &Driver{binary: path, accel: accel, tsc: newTSC()}, nil
}

// Name is qemu.
func (d *Driver) Name() string { return "qemu" }

// Version is QEMU's, such as 7.2.22.
func (d *Driver) Version(ctx context.Context) (string, error) {
	out, err := run.Output(ctx, d.binary, "--version")
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(out), "QEMU emulator version ")
	words := strings.Fields(rest)
	if !ok || len(words) == 0 {
		return "", fmt.Errorf("%s --version does not name a version", d.binary)
	}
	return words[0], nil
}

// Needs are QEMU, its libraries and firmware, and KVM where it is to be used.
// The TAP is handed to it open.
func (d *Driver) Needs() (jail.Needs, error) {
	_, needs, err := jail.Program(d.binary)
	if err != nil {
		return jail.Needs{}, err
	}
	needs.Devices = append(needs.Devices, "/dev/null") // it tries file locks on it
	if d.accel == KVM {
		needs.Devices = append(needs.Devices, "/dev/kvm")
	}
	return needs, nil
}

// OverheadMiB is what QEMU takes on top of the guest's memory: each vCPU has
// its share of tables for translated code.
func (d *Driver) OverheadMiB(cfg fcconfig.Config) int {
	overhead := baseOverheadMiB + 8*cfg.Machine.VCPUCount
	if d.accel == TCG {
		overhead += codeBufferMiB
	}
	return overhead
}

// Start starts QEMU halted, bounds it, and lets the guest go.
func (d *Driver) Start(ctx context.Context, m vmm.Machine) (_ vmm.VM, err error) {
	target := Target{Arch: runtime.GOARCH, Accel: d.accel}
	if d.accel == TCG {
		target.TSCKHz = d.tsc.kHz()
	}
	args, err := Args(m.ID, m.Config, target)
	if err != nil {
		return nil, err
	}
	if err := vmm.FindTAPs(m); err != nil {
		return nil, err
	}
	if err := vmm.PrepareJail(m); err != nil {
		return nil, err
	}
	path, _, err := jail.Program(d.binary)
	if err != nil {
		return nil, err
	}
	conn, files, err := openFiles(m.Config)
	if err != nil {
		return nil, err
	}
	vm := &machine{done: make(chan struct{}), console: &vmm.PanicWatch{To: m.Console}, words: &vmm.LastWords{To: m.Log}}
	began := time.Now()
	vm.process, err = vmm.Launch{
		Path: path, Args: args, Root: m.Jail, UID: m.UID, GID: m.GID, NoNetwork: true, Cgroup: m.Cgroup,
		Stdout: vm.console, Stderr: vm.words, Files: files,
	}.Start()
	closeAll(files) // QEMU's alone from here, so that its end is seen
	if err != nil {
		conn.Close()
		return nil, err
	}
	vm.qmp = newQMP(conn, vm.note)
	go vm.wait()
	version, err := vm.ready(ctx)
	if err == nil {
		m.Loaded(began)
		err = m.Recorded(version)
	}
	if err == nil {
		err = vm.qmp.do(ctx, "cont", nil)
	}
	if err != nil {
		return nil, vm.abandon(err)
	}
	return vm, nil
}

// openFiles opens what QEMU is handed, in the order of its descriptors, and
// our end of its control socket.
func openFiles(cfg fcconfig.Config) (net.Conn, []*os.File, error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make QEMU's control socket: %w", err)
	}
	files := []*os.File{theirs}
	for _, n := range cfg.NetworkInterfaces { // one at most, see untranslatable
		tap, err := openTAP(n.HostDevName)
		if err != nil {
			conn.Close()
			closeAll(files)
			return nil, nil, err
		}
		files = append(files, tap)
	}
	return conn, files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// machine is a running QEMU.
type machine struct {
	process *vmm.Process
	qmp     *qmp
	console *vmm.PanicWatch
	words   *vmm.LastWords
	done    chan struct{}
	exit    vmm.Exit // valid once done is closed

	mu       sync.Mutex
	shutdown *event // the last that QEMU said of its end
	killed   bool
}

// ready waits until QEMU can let the guest's CPUs go, and asks which version it
// is: that takes no second QEMU, which would load as long as this one.
func (v *machine) ready(ctx context.Context) (version string, err error) {
	if err := v.qmp.do(ctx, "qmp_capabilities", nil); err != nil {
		return "", err
	}
	var about struct {
		QEMU struct {
			Major int `json:"major"`
			Minor int `json:"minor"`
			Micro int `json:"micro"`
		} `json:"qemu"`
	}
	err = v.qmp.do(ctx, "query-version", &about)
	return fmt.Sprintf("%d.%d.%d", about.QEMU.Major, about.QEMU.Minor, about.QEMU.Micro), err
}

// abandon ends a QEMU that did not get to running, and says why.
func (v *machine) abandon(err error) error {
	gone := errors.Is(err, errGone)
	if gone { // it is ending by itself: let it say why
		select {
		case <-v.done:
		case <-time.After(endDeadline):
		}
	}
	if kill := v.Kill(); kill != nil {
		err = errors.Join(err, kill)
	}
	<-v.done
	if gone {
		return fmt.Errorf("cannot start QEMU: %s", v.exit.Reason)
	}
	return fmt.Errorf("cannot start QEMU: %w", err)
}

// endDeadline is how long a QEMU that closed its control socket may take to
// end.
const endDeadline = 5 * time.Second

func (v *machine) note(e event) {
	if e.Name != "SHUTDOWN" {
		return
	}
	v.mu.Lock()
	v.shutdown = &e
	v.mu.Unlock()
}

func (v *machine) wait() {
	<-v.process.Done()
	v.qmp.finish() // its last event may say why
	v.exit = v.explain()
	close(v.done)
}

// explain says in words how QEMU ended.
func (v *machine) explain() vmm.Exit {
	code, signal, at := v.process.Ended()
	v.mu.Lock()
	shutdown, killed := v.shutdown, v.killed
	v.mu.Unlock()
	exit := vmm.Exit{Code: code, Signal: signal, Time: at, Cause: vmm.Failed}
	message, panicked := v.console.Panic()
	switch {
	case signal != 0:
		exit.Reason = vmm.KilledBy(signal, killed)
		if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
			exit.Cause = vmm.Killed
		} else {
			exit.Reason += v.words.After(": ")
		}
	case code == 0 && panicked:
		exit.Cause, exit.Reason = vmm.GuestEnded, "the guest's kernel panicked: "+message
	case code == 0 && shutdown != nil && shutdown.Data.Guest:
		exit.Cause, exit.Reason = vmm.GuestEnded, guestReason(shutdown.Data.Reason)
	case code == 0:
		exit.Cause, exit.Reason = vmm.Killed, "QEMU was asked to quit"
	default:
		exit.Reason = fmt.Sprintf("QEMU failed with code %d", code) + v.words.After(": ")
	}
	return exit
}

func guestReason(reason string) string {
	switch reason {
	case "guest-shutdown":
		return "the guest powered off"
	case "guest-reset":
		return "the guest rebooted"
	case "guest-panic":
		return "the guest panicked"
	}
	return "the guest ended (" + reason + ")"
}

func (v *machine) Process() *vmm.Process { return v.process }
func (v *machine) Done() <-chan struct{} { return v.done }
func (v *machine) Exit() vmm.Exit        { return v.exit }

func (v *machine) Status(ctx context.Context) (vmm.Status, error) {
	var status struct {
		Status string `json:"status"`
	}
	err := v.qmp.do(ctx, "query-status", &status)
	switch {
	case errors.Is(err, errGone):
		select {
		case <-v.process.Done():
			return vmm.Ended, nil
		default:
			return vmm.Other, nil // on its way out
		}
	case err != nil:
		return "", err
	case status.Status == "running":
		return vmm.Running, nil
	case status.Status == "paused":
		return vmm.Paused, nil
	}
	return vmm.Other, nil
}

// RequestStop has nothing to offer: the machines have no keyboard, and whether
// a guest hears the power button is for PowerButton to try.
func (v *machine) RequestStop(context.Context) error { return vmm.ErrUnsupported }

// PowerButton presses the ACPI power button. Many kernels have its driver as a
// module that is not loaded.
func (v *machine) PowerButton(ctx context.Context) error {
	return v.qmp.do(ctx, "system_powerdown", nil)
}

func (v *machine) Pause(ctx context.Context) error  { return v.qmp.do(ctx, "stop", nil) }
func (v *machine) Resume(ctx context.Context) error { return v.qmp.do(ctx, "cont", nil) }

// Resize tells QEMU, which sizes the file as well: to what it has already.
func (v *machine) Resize(ctx context.Context, drive string, size int64) error {
	return v.qmp.doWith(ctx, "block_resize", map[string]any{"device": drive, "size": size}, nil)
}

// Counters asks QEMU for its block devices' statistics.
func (v *machine) Counters(ctx context.Context) (vmm.Counters, error) {
	var devices []struct {
		Device string `json:"device"`
		Stats  struct {
			ReadBytes  uint64 `json:"rd_bytes"`
			WriteBytes uint64 `json:"wr_bytes"`
			Reads      uint64 `json:"rd_operations"`
			Writes     uint64 `json:"wr_operations"`
			Flushes    uint64 `json:"flush_operations"`
		} `json:"stats"`
	}
	if err := v.qmp.do(ctx, "query-blockstats", &devices); err != nil {
		return vmm.Counters{}, err
	}
	c := vmm.Counters{Disks: map[string]vmm.DiskCounters{}}
	for _, d := range devices {
		s := d.Stats
		c.Disks[d.Device] = vmm.DiskCounters{ReadBytes: s.ReadBytes, WrittenBytes: s.WriteBytes, Reads: s.Reads, Writes: s.Writes, Flushes: s.Flushes}
	}
	return c, nil
}

var _ vmm.Counter = (*machine)(nil)

func (v *machine) Kill() error {
	v.mu.Lock()
	v.killed = true
	v.mu.Unlock()
	return v.process.Kill()
}
