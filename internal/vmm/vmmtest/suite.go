// Package vmmtest is the contract that every VMM driver keeps, as a test
// suite with real guests.
//
// It owns the suite, the smallest guest that shows the contract, and the
// namespaces in which tests run as a supervisor does. Production code must not
// import it.
package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/vmm"
)

// suite is one driver under test.
type suite struct {
	driver vmm.Driver
	guest  Guest
}

// Run runs the contract against d.
func Run(t *testing.T, d vmm.Driver) {
	s := &suite{driver: d, guest: insideGuest()}
	version, err := d.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s", d.Name(), version)
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"boot", s.testBoot},
		{"confinement", s.testConfinement},
		{"disks", s.testDisks},
		{"resize", s.testResize},
		{"pause", s.testPause},
		{"reboot", s.testReboot},
		{"poweroff", s.testPoweroff},
		{"panic", s.testPanic},
		{"stop", s.testStop},
		{"forced stop", s.testForcedStop},
		{"death", s.testDeath},
		{"restart", s.testRestart},
		{"refused", s.testRefused},
		{"console flood", s.testConsoleFlood},
		{"full memory", s.testFullMemory},
		{"busy disk", s.testBusyDisk},
		{"memory limit", s.testMemoryLimit},
		{"cpu limit", s.testCPULimit},
		{"supervisor death", s.testSupervisorDeath},
	} {
		t.Run(c.name, c.test)
	}
}

// testBoot: the guest is what the configuration says.
func (s *suite) testBoot(t *testing.T) {
	w := s.world(t, options{vcpus: 2, memMiB: 160})
	recorded := ""
	w.machine.Record = func(version string) error {
		recorded = version
		if said := w.console.String(); said != "" {
			t.Errorf("the guest ran before it was recorded: %q", said)
		}
		return nil
	}
	vm := w.boot(t)
	if version, err := s.driver.Version(t.Context()); err != nil || recorded != version {
		t.Errorf("recorded version %q, want %q, %v", recorded, version, err)
	}
	if status, err := vm.Status(t.Context()); err != nil || status != vmm.Running {
		t.Errorf("Status = %s, %v", status, err)
	}
	console := w.console.String()
	for _, want := range []string{
		fmt.Sprintf("disk vda sectors=%d ro=1 head=rootfs", rootfsSize/512),
		fmt.Sprintf("disk vdb sectors=%d ro=0 head=data", dataSize/512),
		fmt.Sprintf("disk vdc sectors=%d ro=1 head=secrets", secretsSize/512),
		"mac " + testMAC,
		"cpus 2 memory 1", // 1xxxxx kB of 160 MiB
		"rng virtio_rng",
		"systemd.hostname=acme",
	} {
		if !strings.Contains(console, want) {
			t.Errorf("the guest does not say %q", want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	if answer, err := command(ctx, "ping"); err != nil || answer != "pong\n" {
		t.Errorf("over the network: %q, %v", answer, err)
	}
	if written, err := os.ReadFile(filepath.Join(w.jail.Root, "fc.final.json")); err != nil || string(written) != string(w.machine.Config.JSON()) {
		t.Errorf("fc.final.json in the jail: %v\n%s", err, written)
	}
}

// testDisks: what the guest writes is in its data image, and nowhere else.
func (s *suite) testDisks(t *testing.T) {
	w := s.world(t, options{})
	vm := w.boot(t)
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	if answer, err := command(ctx, "write"); err != nil || !strings.HasSuffix(answer, "written\n") {
		t.Errorf("writing to data: %q, %v", answer, err)
	}
	counter, ok := vm.(vmm.Counter)
	if !ok {
		t.Fatal("the VMM does not count")
	}
	if counted, err := counter.Counters(t.Context()); err != nil || counted.Disks["data"].WrittenBytes == 0 || counted.Disks["data"].Writes == 0 || counted.Disks["rootfs"].ReadBytes == 0 {
		t.Errorf("after a write the VMM has counted %+v, %v", counted, err)
	}
	if answer, err := command(ctx, "writeroot"); err != nil || !strings.HasSuffix(answer, "refused\n") {
		t.Errorf("writing to the image: %q, %v", answer, err)
	}
	if head, err := os.ReadFile(w.jail.Rootfs); err != nil || string(head[:6]) != "rootfs" {
		t.Errorf("the image has changed: %q, %v", head[:6], err)
	}
}

// testResize: the guest sees a disk that has grown, and can write where it is
// new.
func (s *suite) testResize(t *testing.T) {
	w := s.world(t, options{})
	vm := w.boot(t)
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	if err := vmm.AllowFile(vm.Process(), grownSize); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(w.jail.Data, grownSize); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be repeated
		if err := vm.Resize(ctx, "data", grownSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := vm.Resize(ctx, "other", grownSize); err == nil {
		t.Error("a drive that is not there is resized")
	}
	want := fmt.Sprintln(grownSize / 512)
	for { // the guest hears of it by an interrupt
		answer, err := command(ctx, "size")
		if err != nil {
			t.Fatalf("the guest sees %q sectors, want %q: %v", answer, want, err)
		}
		if answer == want {
			break
		}
	}
	if answer, err := command(ctx, "writelast"); err != nil || !strings.HasSuffix(answer, "written\n") {
		t.Errorf("writing where the disk is new: %q, %v", answer, err)
	}
	head := make([]byte, 4)
	f, err := os.Open(w.jail.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(head, grownSize-512); err != nil || string(head) != "last" {
		t.Errorf("the image ends with %q, %v", head, err)
	}
}

func (s *suite) testPause(t *testing.T) {
	w := s.world(t, options{})
	vm := w.boot(t)
	w.console.Wait(t, vm, "guest: tick 1")
	if err := vm.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, err := vm.Status(t.Context()); err != nil || status != vmm.Paused {
		t.Errorf("Status = %s, %v", status, err)
	}
	time.Sleep(50 * time.Millisecond) // for what is in the pipe already
	before := w.console.String()
	time.Sleep(400 * time.Millisecond) // a guest that runs would tick
	if after := w.console.String(); after != before {
		t.Errorf("a paused guest says %q", after[len(before):])
	}
	if err := vm.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	ticks := strings.Count(before, "guest: tick")
	w.console.Wait(t, vm, fmt.Sprintf("guest: tick %d", ticks+2))
	if status, err := vm.Status(t.Context()); err != nil || status != vmm.Running {
		t.Errorf("Status = %s, %v", status, err)
	}
}

// ends starts a guest that ends by itself and returns how that was seen.
func (s *suite) ends(t *testing.T, mode string) vmm.Exit {
	w := s.world(t, options{mode: mode})
	vm := w.start(t)
	select {
	case <-vm.Done():
	case <-time.After(startDeadline):
		t.Fatalf("the guest does not end")
	}
	if status, err := vm.Status(t.Context()); err != nil || status != vmm.Ended {
		t.Errorf("Status = %s, %v of one that ended", status, err)
	}
	if err := vm.Kill(); err != nil {
		t.Errorf("killing the dead: %v", err)
	}
	return vm.Exit()
}

func (s *suite) testReboot(t *testing.T) {
	if e := s.ends(t, "reboot"); e.Cause != vmm.GuestEnded || e.Code != 0 || !strings.Contains(e.Reason, "reboot") {
		t.Errorf("Exit = %+v", e)
	}
}

func (s *suite) testPoweroff(t *testing.T) {
	if s.driver.Name() == "firecracker" {
		t.Skip("Firecracker on x86 has no power to switch off: its guests reboot to stop")
	}
	if e := s.ends(t, "poweroff"); e.Cause != vmm.GuestEnded || e.Code != 0 || !strings.Contains(e.Reason, "powered off") {
		t.Errorf("Exit = %+v", e)
	}
}

func (s *suite) testPanic(t *testing.T) {
	if e := s.ends(t, "panic"); e.Cause != vmm.GuestEnded || !strings.Contains(e.Reason, "panicked: sysrq triggered crash") {
		t.Errorf("Exit = %+v", e)
	}
}

// testStop: the guest is asked, by the VMM's means or by what the caller has.
func (s *suite) testStop(t *testing.T) {
	w := s.world(t, options{})
	vm := w.boot(t)
	ask := func(ctx context.Context) error {
		_, err := command(ctx, "reboot")
		return err
	}
	forced, err := vmm.Stop(t.Context(), vm, startDeadline, ask)
	if err != nil || forced {
		t.Errorf("Stop = %v, %v", forced, err)
	}
	if e := vm.Exit(); e.Cause != vmm.GuestEnded {
		t.Errorf("Exit = %+v", e)
	}
}

func (s *suite) testForcedStop(t *testing.T) {
	w := s.world(t, options{})
	vm := w.boot(t)
	if err := vm.Pause(t.Context()); err != nil { // it hears nothing now
		t.Fatal(err)
	}
	refuse := func(context.Context) error { return errors.New("no answer") }
	forced, err := vmm.Stop(t.Context(), vm, 100*time.Millisecond, refuse)
	if err != nil || !forced {
		t.Errorf("Stop = %v, %v", forced, err)
	}
	if e := vm.Exit(); e.Cause != vmm.Killed || e.Signal != syscall.SIGKILL || !strings.Contains(e.Reason, "mvm killed") {
		t.Errorf("Exit = %+v", e)
	}
}

// testDeath: a VMM killed by somebody else is noticed at once.
func (s *suite) testDeath(t *testing.T) {
	w := s.world(t, options{})
	vm := w.boot(t)
	if err := w.group.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-vm.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("its death goes unnoticed")
	}
	if vm.Process().ID().Alive() {
		t.Error("it is said to be dead and lives")
	}
	if e := vm.Exit(); e.Cause != vmm.Killed || !strings.Contains(e.Reason, "from outside") {
		t.Errorf("Exit = %+v", e)
	}
}

// testRestart: the same world takes the next machine.
func (s *suite) testRestart(t *testing.T) {
	w := s.world(t, options{})
	first := w.boot(t)
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	if err := w.makeJail(); err != nil {
		t.Fatal(err)
	}
	w.console = &Capture{}
	w.machine.Console = w.console
	w.boot(t)
}

// testRefused: what cannot start says why and leaves nothing behind.
func (s *suite) testRefused(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(t *testing.T, w *world)
		want    string
	}{
		"missing disk":   {func(t *testing.T, w *world) { remove(t, filepath.Join(w.jail.Root, "secrets.ext4")) }, "secrets.ext4"},
		"missing TAP":    {func(t *testing.T, w *world) { w.remake(t, func(rt *fcconfig.Runtime) { rt.TAP = "tap-none" }) }, "tap-none"},
		"missing kernel": {func(t *testing.T, w *world) { w.remake(t, func(rt *fcconfig.Runtime) { rt.Kernel = "/none" }) }, "/none"},
		"no kernel":      {func(t *testing.T, w *world) { w.remake(t, func(rt *fcconfig.Runtime) { rt.Kernel = "/rootfs.ext4" }) }, ""},
		"root":           {func(t *testing.T, w *world) { w.machine.UID = 0 }, "root"},
		"no record":      {func(t *testing.T, w *world) { w.machine.Record = func(string) error { return unix.ENOSPC } }, unix.ENOSPC.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.world(t, options{})
			c.breakIt(t, w)
			ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
			defer cancel()
			vm, err := w.driver.Start(ctx, w.machine)
			if err == nil {
				vm.Kill()
				<-vm.Done()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want it to name %q", err, c.want)
			}
			t.Logf("says: %v", err)
			if pids, err := w.group.Procs(); err != nil || len(pids) != 0 {
				t.Errorf("left behind: %v, %v", pids, err)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// remake changes the machine's configuration.
func (w *world) remake(t *testing.T, change func(*fcconfig.Runtime)) {
	t.Helper()
	change(&w.runtime)
	cfg, err := fcconfig.Final(fcconfig.Base{}, w.runtime)
	if err != nil {
		t.Fatal(err)
	}
	w.machine.Config = cfg
}

// testConsoleFlood: a guest that floods its console, and a reader that is
// slow, hold nothing up.
func (s *suite) testConsoleFlood(t *testing.T) {
	w := s.world(t, options{mode: "flood"})
	release := make(chan struct{})
	w.machine.Console = &slowWriter{to: w.console, after: "guest: flood", until: release}
	vm := w.start(t)
	defer close(release)
	w.console.Wait(t, vm, "guest: flood")
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	if answer, err := command(ctx, "ping"); err != nil || answer != "pong\n" {
		t.Errorf("the guest hangs on its console: %q, %v", answer, err)
	}
	if status, err := vm.Status(ctx); err != nil || status != vmm.Running {
		t.Errorf("Status = %s, %v", status, err)
	}
}

// slowWriter stops taking anything once it has seen after, until released.
type slowWriter struct {
	to    *Capture
	after string
	until chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if strings.Contains(string(p), w.after) {
		<-w.until
	}
	return n, err
}

// testFullMemory: a guest may use all the memory it was given. What the VMM
// needs on top is in the limit.
func (s *suite) testFullMemory(t *testing.T) {
	w := s.world(t, options{mode: "memory", memMiB: 256})
	vm := w.start(t)
	w.console.Wait(t, vm, "guest: tick 10") // it has filled its memory by then
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	if answer, err := command(ctx, "ping"); err != nil || answer != "pong\n" {
		t.Errorf("%q, %v", answer, err)
	}
	stats, err := w.group.Stats()
	if err != nil || stats.OOMKills != 0 {
		t.Errorf("Stats = %+v, %v", stats, err)
	}
	t.Logf("a guest with 256 MiB took %d MiB at most, %d are allowed", stats.MemoryPeak>>20, 256+w.driver.OverheadMiB(w.machine.Config))
}

// testBusyDisk: however much a guest reads at once, the VMM has the threads
// for it.
func (s *suite) testBusyDisk(t *testing.T) {
	const most = 32
	w := s.world(t, options{mode: "disk", limits: cgroup.Limits{Pids: most}})
	vm := w.boot(t)
	w.console.Wait(t, vm, "guest: tick 5")
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	if answer, err := command(ctx, "ping"); err != nil || answer != "pong\n" {
		t.Errorf("%q, %v", answer, err)
	}
	stats, err := w.group.Stats()
	if err != nil || stats.Pids >= most {
		t.Errorf("Stats = %+v, %v", stats, err)
	}
	t.Logf("%d threads", stats.Pids)
}

// testMemoryLimit: a machine that uses more than its cgroup has is ended, and
// only that.
func (s *suite) testMemoryLimit(t *testing.T) {
	w := s.world(t, options{mode: "memory", memMiB: 512, limits: cgroup.Limits{MemoryBytes: 256 << 20}})
	vm := w.start(t)
	select {
	case <-vm.Done():
	case <-time.After(startDeadline):
		t.Fatal("it takes more memory than it has")
	}
	if e := vm.Exit(); e.Cause != vmm.Killed || e.Signal != syscall.SIGKILL {
		t.Errorf("Exit = %+v", e)
	}
	if stats, err := w.group.Stats(); err != nil || stats.OOMKills == 0 || stats.MemoryPeak > 256<<20 {
		t.Errorf("Stats = %+v, %v", stats, err)
	}
}

// testCPULimit: two busy vCPUs get no more than the one CPU that the group
// may use.
func (s *suite) testCPULimit(t *testing.T) {
	w := s.world(t, options{mode: "cpu", vcpus: 2, limits: cgroup.Limits{CPUs: 1}})
	w.boot(t)
	const window = 2 * time.Second
	before, err := w.group.Stats()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	time.Sleep(window)
	after, err := w.group.Stats()
	if err != nil {
		t.Fatal(err)
	}
	used, passed := after.CPU-before.CPU, time.Since(start)
	t.Logf("used %v of CPU in %v", used, passed)
	if used > passed*12/10 {
		t.Errorf("used %v of CPU in %v, want no more than one CPU", used, passed)
	}
	if after.Pids > 64 {
		t.Errorf("%d threads", after.Pids)
	}
}
