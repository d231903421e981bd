package vmmtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/proc"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/undo"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/jail"
)

const (
	hostIP  = "10.99.0.1"
	guestIP = "10.99.0.10"
	tapName = "tap-vmmtest"
	testUID = 930_000
	testMAC = "02:ab:cd:ef:01:23"
)

// world is one machine with all that a supervisor would have made for it.
type world struct {
	dir     string
	driver  vmm.Driver
	machine vmm.Machine
	runtime fcconfig.Runtime
	jail    jail.Spec
	group   *cgroup.Group
	console *Capture
	log     *Capture
}

// options are how a test's machine differs from the usual one.
type options struct {
	mode    string // what the guest does, see initScript
	vcpus   int
	memMiB  int
	limits  cgroup.Limits // zero values are what the machine needs
	runtime func(*fcconfig.Runtime)
}

// newWorld makes everything but the VMM. undo takes it back.
func newWorld(ctx context.Context, d vmm.Driver, g Guest, o options, u *undo.Stack) (*world, error) {
	dir, err := os.MkdirTemp("/run", "vmmtest-")
	if err != nil {
		return nil, err
	}
	u.Push("remove the test's folder", func(context.Context) error { return os.RemoveAll(dir) })
	w := &world{dir: dir, driver: d, console: &Capture{}, log: &Capture{}}
	w.jail = jail.Spec{
		Root: jail.Root(filepath.Join(dir, "jail"), "acme"), UID: testUID, GID: testUID,
		Kernel: g.Kernel, Initrd: g.Initrd,
		Rootfs: filepath.Join(dir, "rootfs"), Data: filepath.Join(dir, "data"),
	}
	if err := w.makeFiles(); err != nil {
		return nil, err
	}
	if err := makeTAP(ctx, u); err != nil {
		return nil, err
	}
	u.Push("remove the jail", func(context.Context) error { return jail.Remove(w.jail.Root) })
	if err := w.makeJail(); err != nil {
		return nil, err
	}
	w.runtime = usualRuntime(o)
	if o.runtime != nil {
		o.runtime(&w.runtime)
	}
	cfg, err := fcconfig.Final(fcconfig.Base{}, w.runtime)
	if err != nil {
		return nil, err
	}
	if err := w.makeCgroup(cfg, o.limits, u); err != nil {
		return nil, err
	}
	w.machine = vmm.Machine{
		ID: "acme", UID: testUID, GID: testUID, Jail: w.jail.Root,
		Config: cfg, Cgroup: w.group, Console: w.console, Log: w.log,
	}
	return w, nil
}

func usualRuntime(o options) fcconfig.Runtime {
	rt := fcconfig.Runtime{
		Kernel: jail.Kernel, Initrd: jail.Initrd, Rootfs: jail.Rootfs, Data: jail.Data, Secrets: jail.Secrets,
		Boot: fcconfig.BootWords{
			IP: netip.MustParseAddr(guestIP), Gateway: netip.MustParseAddr(hostIP), Bits: 24,
			Hostname: "acme", MachineID: strings.Repeat("0123456789abcdef", 2),
		},
		VCPUs: max(o.vcpus, 1), MemMiB: max(o.memMiB, 128), TAP: tapName, MAC: testMAC,
	}
	if o.mode != "" {
		rt.Boot.Extra = map[string]string{"test": o.mode}
	}
	return rt
}

const (
	rootfsSize  = 8 << 20
	dataSize    = 16 << 20
	grownSize   = 4*dataSize + 1<<20 // the most that a test makes of it
	secretsSize = 1 << 20
)

func (w *world) makeFiles() error {
	if err := makeDisk(w.jail.Rootfs, "rootfs", rootfsSize, 0o444); err != nil {
		return err
	}
	if err := makeDisk(w.jail.Data, "data", dataSize, 0o600); err != nil {
		return err
	}
	return os.Chown(w.jail.Data, testUID, testUID)
}

// makeDisk makes a file that begins with its name.
func makeDisk(path, name string, size int64, mode os.FileMode) error {
	if err := os.WriteFile(path, fmt.Appendf(nil, "%-8s", name), mode); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// makeJail makes the jail, also over the one from before, and the secrets in
// it.
func (w *world) makeJail() error {
	needs, err := w.driver.Needs()
	if err != nil {
		return err
	}
	w.jail.Needs = needs
	if err := jail.Make(w.jail); err != nil {
		return err
	}
	secrets := filepath.Join(w.jail.Root, jail.Secrets)
	if err := makeDisk(secrets, "secrets", secretsSize, 0o400); err != nil {
		return err
	}
	return os.Chown(secrets, testUID, testUID)
}

func (w *world) makeCgroup(cfg fcconfig.Config, l cgroup.Limits, u *undo.Stack) error {
	host, err := cgroup.Detect()
	if err != nil {
		return err
	}
	self, err := proc.Self() // pid 1 is not the host's
	if err != nil {
		return err
	}
	if l.CPUs == 0 {
		l.CPUs = cfg.Machine.VCPUCount
	}
	if l.MemoryBytes == 0 {
		l.MemoryBytes = uint64(cfg.Machine.MemSizeMiB+w.driver.OverheadMiB(cfg)) << 20
	}
	if l.Pids == 0 {
		l.Pids = 64
	}
	w.group, err = host.Create(fmt.Sprintf("mvm-vmmtest-%d", self.PID), "acme", l)
	if err != nil {
		return err
	}
	u.Push("remove the cgroup", w.group.Remove)
	return nil
}

// makeTAP makes the TAP in this test's own network namespace.
func makeTAP(ctx context.Context, u *undo.Stack) error {
	for _, args := range [][]string{
		{"tuntap", "add", "dev", tapName, "mode", "tap", "user", fmt.Sprint(testUID)},
		{"addr", "add", hostIP + "/24", "dev", tapName},
		{"link", "set", tapName, "up"},
	} {
		if _, err := run.Output(ctx, "ip", args...); err != nil {
			return err
		}
		if args[0] == "tuntap" {
			u.Push("remove the TAP", func(ctx context.Context) error {
				_, err := run.Output(ctx, "ip", "link", "del", tapName)
				return err
			})
		}
	}
	return nil
}

// world makes a machine's world for one test.
func (s *suite) world(t *testing.T, o options) *world {
	t.Helper()
	var u undo.Stack
	t.Cleanup(func() {
		var err error
		if u.Run(context.Background(), &err); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	w, err := newWorld(t.Context(), s.driver, s.guest, o, &u)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// start starts the machine and ends it with the test.
func (w *world) start(t *testing.T) vmm.VM {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	vm, err := w.driver.Start(ctx, w.machine)
	if err != nil {
		t.Fatalf("%v\nlog: %s", err, w.log)
	}
	t.Cleanup(func() {
		if err := vm.Kill(); err != nil {
			t.Error(err)
		}
		<-vm.Done()
		if t.Failed() {
			t.Logf("exit: %+v\nlog: %s\nconsole: %s", vm.Exit(), w.log, w.console)
		}
	})
	return vm
}

// boot starts the machine and waits until its guest is up.
func (w *world) boot(t *testing.T) vmm.VM {
	t.Helper()
	vm := w.start(t)
	w.console.Wait(t, vm, "guest: ready")
	return vm
}

// command has the guest do one thing and returns what it says.
func command(ctx context.Context, line string) (string, error) {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(guestIP, "7"))
		if err != nil {
			if ctx.Err() != nil {
				return "", err
			}
			time.Sleep(20 * time.Millisecond) // it refuses until it listens
			continue
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		if _, err := fmt.Fprintln(conn, line); err != nil {
			return "", err
		}
		var out bytes.Buffer
		_, err = out.ReadFrom(bufio.NewReader(conn))
		return out.String(), err
	}
}

// Capture keeps what is written to it and lets tests wait for a part of it.
type Capture struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

// maxCapture bounds what is kept: the beginning.
const maxCapture = 4 << 20

func (c *Capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf.Write(p[:min(len(p), max(0, maxCapture-c.buf.Len()))])
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
	return len(p), nil
}

func (c *Capture) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// Wait returns when text was written. It fails the test if the VM ends first,
// or when it takes too long.
func (c *Capture) Wait(t *testing.T, vm vmm.VM, text string) {
	t.Helper()
	timeout := time.After(startDeadline)
	for {
		c.mu.Lock()
		found := bytes.Contains(c.buf.Bytes(), []byte(text))
		if c.more == nil {
			c.more = make(chan struct{})
		}
		more := c.more
		c.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-vm.Done():
			if !strings.Contains(c.String(), text) {
				t.Fatalf("the VM ended (%s) before it said %q", vm.Exit().Reason, text)
			}
		case <-timeout:
			t.Fatalf("the VM does not say %q", text)
		}
	}
}
