// Package firecracker drives Firecracker, jailed by its own jailer: the tier
// on hardware virtualisation, and the isolation boundary that mvm relies on.
//
// It owns how Firecracker and the jailer are called, the talk over the API
// socket, and what the exit codes mean. It knows nothing of how Firecracker
// came onto the host; that is package install.
package firecracker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/jail"
)

// oldest is the oldest Firecracker that the configuration's model fits.
var oldest = fcconfig.Version{1, 15, 0}

// ErrNoJailer is what New says where the jailer is missing and running without
// it was not asked for.
var ErrNoJailer = errors.New("the jailer of Firecracker is not installed")

// Options say where Firecracker is and how to run it.
type Options struct {
	Binary string // "" looks firecracker up in PATH
	Jailer string // "" looks jailer up beside the binary, then in PATH
	// NoJailer runs Firecracker in mvm's own jail instead.
	NoJailer bool
	// AllowUnfiltered accepts a Firecracker without seccomp filters, as a
	// build for debugging is.
	AllowUnfiltered bool
}

// Driver starts machines with Firecracker. It does not change once made.
type Driver struct {
	Options
}

// New finds Firecracker and the jailer.
func New(o Options) (*Driver, error) {
	binary, err := find(o.Binary, "firecracker")
	if err != nil {
		return nil, fmt.Errorf("cannot find Firecracker: %w", err)
	}
	o.Binary = binary
	if o.NoJailer {
		o.Jailer = ""
		return &Driver{o}, nil
	}
	if o.Jailer == "" {
		if beside := filepath.Join(filepath.Dir(binary), "jailer"); isProgram(beside) {
			o.Jailer = beside
		}
	}
	if o.Jailer, err = find(o.Jailer, "jailer"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoJailer, err)
	}
	if name := filepath.Base(binary); name != "firecracker" {
		return nil, fmt.Errorf("cannot use %s with the jailer: the file must be named firecracker, not %s", binary, name)
	}
	return &Driver{o}, nil
}

func find(path, name string) (string, error) {
	if path == "" {
		path = name
	}
	path, err := exec.LookPath(path)
	if err != nil {
		return "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Name is firecracker.
func (d *Driver) Name() string { return "firecracker" }

// Version is Firecracker's, such as 1.17.0.
func (d *Driver) Version(ctx context.Context) (string, error) {
	out, err := run.Output(ctx, d.Binary, "--version")
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(out))
	if len(words) < 2 || words[0] != "Firecracker" {
		return "", fmt.Errorf("%s --version does not name a version", d.Binary)
	}
	return strings.TrimPrefix(words[1], "v"), nil
}

// fittingVersion is the version, unless the configuration does not fit it.
func (d *Driver) fittingVersion(ctx context.Context, cfg fcconfig.Config) (string, error) {
	name, err := d.Version(ctx)
	if err != nil {
		return "", err
	}
	v, err := fcconfig.ParseVersion(name)
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot tell which Firecracker %s is: %w", d.Binary, err)
	case v.Less(oldest) || v[0] != oldest[0]:
		return "", fmt.Errorf("cannot use Firecracker %s: mvm works with %s and newer 1.x", v, oldest)
	case v.Less(cfg.MinVersion):
		return "", fmt.Errorf("cannot use Firecracker %s: the base configuration is for %s", v, cfg.MinVersion)
	}
	return name, nil
}

// Needs are the libraries of a Firecracker that has any (releases have none),
// and, without the jailer, Firecracker itself and its devices.
func (d *Driver) Needs() (jail.Needs, error) {
	at, needs, err := jail.Program(d.Binary)
	if err != nil {
		return jail.Needs{}, err
	}
	if d.Jailer == "" {
		needs.Devices = []string{"/dev/kvm", "/dev/net/tun", "/dev/urandom"}
		return needs, nil
	}
	if at == "/firecracker" { // static: the jailer makes its own copy there
		needs.Binds = nil
	}
	return needs, nil
}

// OverheadMiB is what Firecracker takes on top of the guest's memory: its own
// few MiB, the jail's copy of it, the tables that map the guest's memory, and
// room for the page cache of its disks.
func (d *Driver) OverheadMiB(cfg fcconfig.Config) int {
	return 64 + cfg.Machine.MemSizeMiB/128
}

// Start starts Firecracker with its configuration and returns when its API
// says that the machine runs.
func (d *Driver) Start(ctx context.Context, m vmm.Machine) (vmm.VM, error) {
	version, err := d.fittingVersion(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	launch, err := d.launch(m)
	if err != nil {
		return nil, err
	}
	if err := vmm.FindTAPs(m); err != nil {
		return nil, err
	}
	if err := vmm.PrepareJail(m); err != nil {
		return nil, err
	}
	run := filepath.Join(m.Jail, jail.Run)
	socket := filepath.Join(run, socketName)
	if err := os.RemoveAll(socket); err != nil { // a stale one keeps Firecracker from starting
		return nil, fmt.Errorf("cannot remove a stale socket: %w", err)
	}
	if err := m.Recorded(version); err != nil { // with its configuration in a file, it lets the guest go at once
		return nil, err
	}
	v := &machine{
		api:      api{socket, m.UID},
		drives:   m.Config.Drives,
		counters: newCounters(),
		done:     make(chan struct{}), console: &vmm.PanicWatch{To: m.Console}, words: &vmm.LastWords{To: m.Log},
	}
	watch := &startWatch{to: v.words, started: make(chan struct{})}
	log, err := openFIFO(run, logName, m.UID, m.GID, watch)
	if err != nil {
		return nil, err
	}
	metrics, err := openFIFO(run, metricsName, m.UID, m.GID, v.counters)
	if err != nil {
		log.finish()
		return nil, err
	}
	launch.Stdout, launch.Stderr = v.console, v.words
	began := time.Now()
	if v.process, err = launch.Start(); err != nil {
		log.finish()
		metrics.finish()
		return nil, err
	}
	go v.wait(log, metrics)
	err = v.begin(ctx, watch.started)
	if err == nil && !d.AllowUnfiltered {
		err = v.checkFiltered()
	}
	if err != nil {
		return nil, v.abandon(err)
	}
	m.Loaded(began)
	return v, nil
}

// launch is the command that becomes Firecracker.
func (d *Driver) launch(m vmm.Machine) (vmm.Launch, error) {
	if d.Jailer == "" {
		at, _, err := jail.Program(d.Binary)
		return vmm.Launch{
			Path: at, Args: append([]string{"--id", m.ID}, vmmArgs()...),
			Root: m.Jail, UID: m.UID, GID: m.GID, Cgroup: m.Cgroup,
		}, err
	}
	base := filepath.Clean(filepath.Join(m.Jail, "../../.."))
	if jail.Root(base, m.ID) != filepath.Clean(m.Jail) {
		return vmm.Launch{}, fmt.Errorf("cannot start Firecracker: the jailer wants %s, not %s", jail.Root(base, m.ID), m.Jail)
	}
	return vmm.Launch{
		Path: d.Jailer, Args: jailerArgs(m, d.Binary, base),
		UID: m.UID, GID: m.GID, KeepRoot: true, Cgroup: m.Cgroup,
	}, nil
}

// machine is a running Firecracker.
type machine struct {
	process  *vmm.Process
	api      api
	drives   []fcconfig.Drive
	counters *counters
	console  *vmm.PanicWatch
	words    *vmm.LastWords
	killed   atomic.Bool
	done     chan struct{}
	exit     vmm.Exit // valid once done is closed
}

func (v *machine) wait(pipes ...*fifo) {
	<-v.process.Done()
	for _, p := range pipes {
		p.finish()
	}
	v.exit = v.explain()
	close(v.done)
}

// errEnded is a Firecracker that ended while it was waited for.
var errEnded = errors.New("it ended")

// askAnyway is when the API is asked although the log does not tell of a
// start, as a future Firecracker's might not.
const askAnyway = 10 * time.Second

// begin waits until Firecracker says that the machine runs: in its log, then
// through its API.
func (v *machine) begin(ctx context.Context, started <-chan struct{}) error {
	select {
	case <-started:
	case <-time.After(askAnyway):
	case <-v.process.Done():
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := v.Status(ctx)
		var refused *fault
		switch {
		case err == nil && status == vmm.Running:
			return nil
		case errors.As(err, &refused):
			return err
		}
		select {
		case <-v.process.Done():
			return errEnded
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// checkFiltered makes sure that Firecracker gave up the system calls that it
// does not need. A build without filters is silent about it.
func (v *machine) checkFiltered() error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.process.ID().PID))
	if err != nil {
		return fmt.Errorf("cannot see whether it has seccomp filters: %w", err)
	}
	if !strings.Contains(string(status), "\nSeccomp:\t2\n") {
		return errors.New("this build has no seccomp filters: install a release")
	}
	return nil
}

// abandon ends a Firecracker that did not get to running, and says why.
func (v *machine) abandon(err error) error {
	ended := errors.Is(err, errEnded)
	if !ended {
		if kill := v.Kill(); kill != nil {
			err = errors.Join(err, kill)
		}
	}
	<-v.done
	if ended {
		return fmt.Errorf("cannot start Firecracker: %s", v.exit.Reason)
	}
	return fmt.Errorf("cannot start Firecracker: %w", err)
}

func (v *machine) Process() *vmm.Process { return v.process }
func (v *machine) Done() <-chan struct{} { return v.done }
func (v *machine) Exit() vmm.Exit        { return v.exit }

func (v *machine) Status(ctx context.Context) (vmm.Status, error) {
	select {
	case <-v.process.Done():
		return vmm.Ended, nil
	default:
	}
	var info struct {
		State string `json:"state"`
	}
	if err := v.api.get(ctx, "/", &info); err != nil {
		return "", fmt.Errorf("cannot ask Firecracker for its state: %w", err)
	}
	switch info.State {
	case "Running":
		return vmm.Running, nil
	case "Paused":
		return vmm.Paused, nil
	}
	return vmm.Other, nil
}

// RequestStop presses Ctrl+Alt+Del. Firecracker has a keyboard on x86 alone.
func (v *machine) RequestStop(ctx context.Context) error {
	if runtime.GOARCH != "amd64" {
		return vmm.ErrUnsupported
	}
	return v.action(ctx, "SendCtrlAltDel")
}

func (v *machine) action(ctx context.Context, name string) error {
	if err := v.api.send(ctx, "PUT", "/actions", map[string]string{"action_type": name}); err != nil {
		return fmt.Errorf("cannot ask Firecracker for %s: %w", name, err)
	}
	return nil
}

func (v *machine) Pause(ctx context.Context) error  { return v.setState(ctx, "Paused") }
func (v *machine) Resume(ctx context.Context) error { return v.setState(ctx, "Resumed") }

func (v *machine) setState(ctx context.Context, state string) error {
	if err := v.api.send(ctx, "PATCH", "/vm", map[string]string{"state": state}); err != nil {
		return fmt.Errorf("cannot ask Firecracker to be %s: %w", strings.ToLower(state), err)
	}
	return nil
}

// Resize has Firecracker open the drive's file anew, which finds its size.
func (v *machine) Resize(ctx context.Context, drive string, _ int64) error {
	at := slices.IndexFunc(v.drives, func(d fcconfig.Drive) bool { return d.DriveID == drive })
	if at < 0 {
		return fmt.Errorf("cannot resize drive %s: there is none", drive)
	}
	change := map[string]string{"drive_id": drive, "path_on_host": v.drives[at].PathOnHost}
	if err := v.api.send(ctx, "PATCH", "/drives/"+drive, change); err != nil {
		return fmt.Errorf("cannot ask Firecracker to resize drive %s: %w", drive, err)
	}
	return nil
}

func (v *machine) Kill() error {
	v.killed.Store(true)
	return v.process.Kill()
}
