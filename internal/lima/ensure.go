package lima

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/auser/mvm/internal/run"
)

const (
	bootTimeout  = 10 * time.Minute // of an emulated machine
	setupTimeout = 20 * time.Minute // the first boot installs packages
)

// Setup makes the VM where there is none, starts it, waits until it is
// provisioned and installs mvm in it. Each step is skipped where it is done. A
// VM that is a person's own, which it did not make, is taken as it is.
func (vm *VM) Setup(ctx context.Context, h Host, s Settings, recreate bool) (made bool, err error) {
	text, hash, err := Render(h, s)
	if err != nil {
		return false, err
	}
	unlock, err := vm.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	inst, err := vm.Look(ctx)
	if err != nil {
		return false, err
	}
	if err := inst.fits(hash); err != nil {
		if !recreate {
			return false, err
		}
		if err := vm.remove(ctx); err != nil {
			return false, err
		}
		inst = Instance{Name: vm.Name}
	}
	if inst.Status == StatusMissing {
		inst, err = vm.create(ctx, text)
	} else {
		err = vm.startAgain(ctx, inst)
	}
	if err != nil {
		return false, err
	}
	p, err := vm.waitReady(ctx, inst, setupTimeout)
	if err != nil {
		return false, err
	}
	return inst.made(), vm.install(ctx, p)
}

// fits says what keeps an instance from being the one that setup would make.
func (i Instance) fits(hash string) error {
	switch {
	case i.Status == StatusMissing:
		return nil
	case i.Config == nil:
		return i.unreadable()
	case i.made() && i.Template() != hash:
		return &Error{
			Msg:  fmt.Sprintf("the Lima VM %s was made with other settings or by another mvm", i.Name),
			Hint: "mvm setup --recreate makes it anew: everything in it is lost, tenants and their data too",
		}
	}
	return nil
}

// create makes the instance and boots it for the first time.
func (vm *VM) create(ctx context.Context, template []byte) (Instance, error) {
	file := filepath.Join(vm.Dir, vm.Name+".yaml")
	if err := os.WriteFile(file, template, 0o600); err != nil {
		return Instance{}, fmt.Errorf("cannot write the Lima VM's template: %w", err)
	}
	vm.Say("making the Lima VM %s (this fetches an image and installs packages)", vm.Name)
	if err := vm.limactl(ctx, "start", "--tty=false", "--timeout", setupTimeout.String(), "--name", vm.Name, file); err != nil {
		return Instance{}, vm.startFailed(ctx, "make", err)
	}
	return vm.Look(ctx)
}

// startFailed adds advice to the error of a VM that did not come up.
func (vm *VM) startFailed(ctx context.Context, what string, err error) error {
	hint := "the same command again goes on from there"
	_, denied := openKVM()
	inst, lookErr := vm.Look(ctx)
	switch {
	case lookErr == nil && inst.Status == StatusRunning:
		hint = "it may still boot: the same command again waits for that; if it hangs, mvm lima stop first"
	case denied:
		hint = "Lima wants /dev/kvm, which this user may not open: join the group that may (ls -l /dev/kvm) and log in again"
	}
	return &Error{Kind: err, Msg: fmt.Sprintf("cannot %s the Lima VM: %v", what, err), Hint: hint}
}

// startAgain starts an existing instance for setup. One whose provisioning has
// failed boots again, for that runs it again.
func (vm *VM) startAgain(ctx context.Context, inst Instance) error {
	if !inst.made() {
		vm.Say("mvm did not make the Lima VM %s: taking it as it is", vm.Name)
	}
	if inst.Status == StatusRunning {
		if p, err := vm.probe(ctx, inst); err == nil && p.failed != "" {
			vm.Say("stopping the Lima VM %s, to prepare it again: it says %s", vm.Name, p.failed)
			if err := vm.halt(ctx); err != nil {
				return err
			}
			inst.Status = StatusStopped
		}
	}
	return vm.start(ctx, inst, setupTimeout)
}

// Ensure has the VM run and hold this very mvm. It does not make one.
func (vm *VM) Ensure(ctx context.Context) error {
	inst, err := vm.Look(ctx)
	if err != nil {
		return err
	}
	if inst.Status == StatusRunning {
		// The common case takes no lock.
		if p, err := vm.probe(ctx, inst); err == nil && p.ready != "" {
			if same, err := vm.current(ctx, p); err != nil || same {
				return err
			}
		}
	}
	unlock, err := vm.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if inst, err = vm.Look(ctx); err != nil {
		return err
	}
	if inst.Status == StatusMissing {
		return vm.missing()
	}
	if err := vm.start(ctx, inst, bootTimeout); err != nil {
		return err
	}
	p, err := vm.waitReady(ctx, inst, bootTimeout)
	if err != nil {
		return err
	}
	return vm.install(ctx, p)
}

// CheckRunning says what the VM is where it does not run. It starts nothing.
func (vm *VM) CheckRunning(ctx context.Context) error {
	inst, err := vm.Look(ctx)
	switch {
	case err != nil:
		return err
	case inst.Status == StatusRunning:
		return nil
	case inst.Status == StatusMissing:
		return vm.missing()
	case inst.Config == nil:
		return inst.unreadable()
	}
	return &Error{Kind: ErrHost, Msg: fmt.Sprintf("the Lima VM %s does not run (%s)%s", vm.Name, inst.Status, inst.why()),
		Hint: "mvm setup, or any command that needs it, starts it"}
}

func (vm *VM) missing() error {
	return &Error{Kind: ErrHost, Msg: fmt.Sprintf("there is no Lima VM %s to run in", vm.Name), Hint: "mvm setup makes it"}
}

// start has an existing instance run. The caller holds the lock.
func (vm *VM) start(ctx context.Context, inst Instance, timeout time.Duration) error {
	switch {
	case inst.Config == nil:
		return inst.unreadable()
	case inst.Status == StatusRunning:
		return nil
	case inst.Status == StatusBroken:
		vm.Say("repairing the Lima VM %s%s", vm.Name, inst.why())
		if err := vm.limactl(ctx, "stop", "-f", vm.Name); err != nil {
			return fmt.Errorf("cannot repair the Lima VM: %w", err)
		}
	}
	vm.Say("starting the Lima VM %s", vm.Name)
	if err := vm.limactl(ctx, "start", "--tty=false", "--timeout", timeout.String(), vm.Name); err != nil {
		return vm.startFailed(ctx, "start", err)
	}
	return nil
}

// Stop ends the VM and everything in it. One that does not run is fine.
func (vm *VM) Stop(ctx context.Context) (already bool, err error) {
	unlock, err := vm.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	inst, err := vm.Look(ctx)
	if err != nil || inst.Status == StatusMissing || inst.Status == StatusStopped {
		return true, err
	}
	return false, vm.halt(ctx)
}

// halt stops the VM, by force where it does not end by itself. The caller
// holds the lock.
func (vm *VM) halt(ctx context.Context) error {
	err := vm.limactl(ctx, "stop", vm.Name)
	if err != nil && ctx.Err() == nil {
		err = vm.limactl(ctx, "stop", "-f", vm.Name)
	}
	if err != nil {
		return fmt.Errorf("cannot stop the Lima VM: %w", err)
	}
	return nil
}

// Delete removes the VM with everything in it.
func (vm *VM) Delete(ctx context.Context) error {
	unlock, err := vm.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := vm.checkLimactl(); err != nil {
		return err
	}
	return vm.remove(ctx)
}

func (vm *VM) remove(ctx context.Context) error {
	vm.Say("deleting the Lima VM %s", vm.Name)
	if err := vm.limactl(ctx, "delete", "-f", vm.Name); err != nil {
		return fmt.Errorf("cannot delete the Lima VM: %w", err)
	}
	return nil
}

// limactl runs one of the commands that take their time, and hands on what it
// says of that.
func (vm *VM) limactl(ctx context.Context, args ...string) error {
	log := &logWriter{say: vm.Say}
	args = append([]string{args[0], "--log-format=json"}, args[1:]...)
	err := run.Run(ctx, run.Command{Name: vm.Limactl, Args: args, Stderr: log})
	var failure *run.Error
	if log.entries > 0 && errors.As(err, &failure) {
		failure.Stderr = log.failure
	}
	return err
}

// current says whether the mvm inside is the one that this host brings along.
func (vm *VM) current(ctx context.Context, p probe) (bool, error) {
	_, sum, err := vm.binary(ctx)
	return sum == p.binary, err
}

// binary is the Linux build for the VM and its sha256.
func (vm *VM) binary(ctx context.Context) (path, sum string, err error) {
	inst, err := vm.Look(ctx)
	if err != nil {
		return "", "", err
	}
	arch, ok := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[inst.Arch]
	if !ok {
		return "", "", fmt.Errorf("the Lima VM has the unknown architecture %q", inst.Arch)
	}
	if path, err = vm.LinuxBinary(arch); err != nil {
		return "", "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", "", fmt.Errorf("cannot read the Linux build of mvm: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", "", fmt.Errorf("cannot read the Linux build of mvm: %w", err)
	}
	return path, hex.EncodeToString(hash.Sum(nil)), nil
}

// installScript puts standard input in the place of mvm in one step, if it
// arrived whole.
const installScript = `set -e
new=/usr/local/bin/.mvm.$$
trap 'rm -f "$new"' EXIT
install -m 755 /dev/stdin "$new"
echo "$1  $new" | sha256sum --check --quiet
mv "$new" /usr/local/bin/mvm`

func (vm *VM) install(ctx context.Context, p probe) error {
	path, sum, err := vm.binary(ctx)
	if err != nil || sum == p.binary {
		return err
	}
	vm.Say("installing this version of mvm in the Lima VM")
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the Linux build of mvm: %w", err)
	}
	defer f.Close()
	if _, err := vm.inside(ctx, f, "sudo", "sh", "-c", installScript, "mvm", sum); err != nil {
		return fmt.Errorf("cannot install mvm in the Lima VM: %w", err)
	}
	return nil
}

// BesideSelf finds the Linux build for arch beside the running program: the
// program itself where that is one, else mvm-linux-<arch> in its folder or in
// ../libexec/mvm.
func BesideSelf(goos, goarch string) func(arch string) (string, error) {
	return func(arch string) (string, error) {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("cannot find the Linux build of mvm: %w", err)
		}
		if self, err = filepath.EvalSymlinks(self); err != nil {
			return "", fmt.Errorf("cannot find the Linux build of mvm: %w", err)
		}
		if goos == "linux" && goarch == arch {
			return self, nil
		}
		name := "mvm-linux-" + arch
		dir := filepath.Dir(self)
		for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, "..", "libexec", "mvm", name)} {
			if _, err := os.Stat(path); err == nil {
				return path, nil
			} else if !errors.Is(err, os.ErrNotExist) {
				return "", fmt.Errorf("cannot find the Linux build of mvm: %w", err)
			}
		}
		return "", &Error{Kind: ErrHost, Msg: fmt.Sprintf("there is no %s beside %s", name, self), Hint: "install mvm from a release or with make install, which bring it along"}
	}
}
