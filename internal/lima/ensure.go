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
	"strings"
	"time"

	"github.com/auser/mvm/internal/run"
)

const (
	bootTimeout  = 5 * time.Minute
	setupTimeout = 20 * time.Minute // the first boot installs packages
)

// Setup makes the VM where there is none, starts it, waits until it is
// provisioned and installs mvm in it. Each step is skipped where it is done.
func (vm *VM) Setup(ctx context.Context, h Host, s Settings, recreate bool) error {
	text, hash, err := Render(h, s)
	if err != nil {
		return err
	}
	unlock, err := vm.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	inst, err := vm.Look(ctx)
	if err != nil {
		return err
	}
	if inst.Status != StatusMissing && inst.Template() != hash {
		if !recreate {
			return &Error{
				Msg:  fmt.Sprintf("the Lima VM %s was made with other settings or by another mvm", vm.Name),
				Hint: "mvm setup --recreate makes it anew: everything in it is lost, tenants and their data too",
			}
		}
		vm.Say("deleting the Lima VM %s", vm.Name)
		if err := vm.limactl(ctx, "delete", "-f", vm.Name); err != nil {
			return fmt.Errorf("cannot delete the Lima VM: %w", err)
		}
		inst = Instance{Name: vm.Name}
	}
	if inst.Status == StatusMissing {
		file := filepath.Join(vm.Dir, vm.Name+".yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return fmt.Errorf("cannot write the Lima VM's template: %w", err)
		}
		vm.Say("making the Lima VM %s (this fetches an image and installs packages)", vm.Name)
		if err := vm.limactl(ctx, "start", "--tty=false", "--timeout", setupTimeout.String(), "--name", vm.Name, file); err != nil {
			return fmt.Errorf("cannot make the Lima VM: %w", err)
		}
	} else if err := vm.start(ctx, inst); err != nil {
		return err
	}
	p, err := vm.waitReady(ctx, setupTimeout)
	if err != nil {
		return err
	}
	return vm.install(ctx, p)
}

// Ensure has the VM run and hold this very mvm. It does not make one.
func (vm *VM) Ensure(ctx context.Context) error {
	inst, err := vm.Look(ctx)
	if err != nil {
		return err
	}
	if inst.Status == StatusRunning {
		// The common case takes no lock.
		if p, err := vm.probe(ctx); err == nil && p.ready != "" {
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
	if err := vm.start(ctx, inst); err != nil {
		return err
	}
	p, err := vm.waitReady(ctx, bootTimeout)
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
	}
	why := ""
	if len(inst.Errors) > 0 {
		why = ": " + strings.Join(inst.Errors, "; ")
	}
	return &Error{Kind: ErrHost, Msg: fmt.Sprintf("the Lima VM %s does not run (%s)%s", vm.Name, inst.Status, why),
		Hint: "mvm setup, or any command that needs it, starts it"}
}

func (vm *VM) missing() error {
	return &Error{Kind: ErrHost, Msg: fmt.Sprintf("there is no Lima VM %s to run in", vm.Name), Hint: "mvm setup makes it"}
}

// start has an existing instance run. The caller holds the lock.
func (vm *VM) start(ctx context.Context, inst Instance) error {
	switch inst.Status {
	case StatusRunning:
		return nil
	case StatusBroken:
		vm.Say("repairing the Lima VM %s: %s", vm.Name, strings.Join(inst.Errors, "; "))
		if err := vm.limactl(ctx, "stop", "-f", vm.Name); err != nil {
			return fmt.Errorf("cannot repair the Lima VM: %w", err)
		}
	}
	vm.Say("starting the Lima VM %s", vm.Name)
	if err := vm.limactl(ctx, "start", "--tty=false", "--timeout", bootTimeout.String(), vm.Name); err != nil {
		return fmt.Errorf("cannot start the Lima VM: %w", err)
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
	if err := vm.limactl(ctx, "stop", vm.Name); err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err := vm.limactl(ctx, "stop", "-f", vm.Name); err != nil {
			return false, fmt.Errorf("cannot stop the Lima VM: %w", err)
		}
	}
	return false, nil
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
	if err := vm.limactl(ctx, "delete", "-f", vm.Name); err != nil {
		return fmt.Errorf("cannot delete the Lima VM: %w", err)
	}
	return nil
}

func (vm *VM) limactl(ctx context.Context, args ...string) error {
	_, err := run.Output(ctx, vm.Limactl, args...)
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
		return "", &Error{Kind: ErrHost, Msg: fmt.Sprintf("there is no %s beside %s", name, self), Hint: "install mvm from a release, which brings it along, or build it: scripts/macos"}
	}
}
