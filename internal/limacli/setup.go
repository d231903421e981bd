package limacli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/lima"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/tenant"
)

// setupOptions are what was said on the command line.
type setupOptions struct {
	lima.Settings
	machine  string
	check    bool
	recreate bool
}

func (o *setupOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.machine, "machine", "", "native, software or emulated (default: native, which must be possible)")
	f.StringVar(&o.Engine, "engine", "", "docker or containerd (default: docker)")
	f.IntVar(&o.CPUs, "cpus", 0, "CPUs of the Lima VM (default: 4)")
	f.IntVar(&o.MemGiB, "mem", 0, "memory of the Lima VM in GiB (default: 8)")
	f.IntVar(&o.DiskGiB, "disk", 0, "disk of the Lima VM in GiB (default: 100)")
	f.BoolVar(&o.check, "check", false, "only say what this host can do")
	f.BoolVar(&o.recreate, "recreate", false, "make the Lima VM anew where its settings differ: everything in it is lost")
}

func (a *app) setupCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make and start the Lima VM, and prepare it",
		Long: `Make and start the Lima VM, and prepare it: a container engine, Firecracker,
QEMU and this very mvm. What is done already is skipped; interrupted, it goes
on from there when run again.

What guests can be depends on this host:
  native    hardware virtualisation inside the VM: Firecracker, the isolation
            boundary that mvm is made for. On Macs it takes an M3 or newer and
            macOS 15 or newer.
  software  guests are emulated by QEMU: slow, and no boundary to rely on.
  emulated  the VM is an emulated x86-64 machine with an emulated KVM:
            Firecracker runs, many times slower still.
The last two have to be asked for.`,
		Example: "  mvm setup --check\n  mvm setup\n  mvm setup --machine software",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.setup(cmd.Context(), o) },
	}
	o.flags(cmd)
	return cmd
}

func (a *app) bootstrapCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Install Lima where it is missing, then set up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.installLima(cmd.Context()); err != nil {
				return err
			}
			return a.setup(cmd.Context(), o)
		},
	}
	o.flags(cmd)
	return cmd
}

// prepare makes the Lima VM where there is none, as mvm bootstrap does: Lima
// first, where that is missing. What the machine is like is still a person's
// own choice where this host cannot do the default.
func (a *app) prepare(ctx context.Context) error {
	if _, err := exec.LookPath(a.vm.Limactl); err == nil {
		inst, err := a.vm.Look(ctx)
		if err != nil || inst.Status != lima.StatusMissing {
			return err
		}
	}
	a.note("there is no Lima VM %s yet: doing what mvm bootstrap does", a.vm.Name)
	if err := a.installLima(ctx); err != nil {
		return err
	}
	return a.setupAside(ctx)
}

// setupAside sets up on the way to another command, whose standard output it
// leaves alone.
func (a *app) setupAside(ctx context.Context) error {
	aside := *a
	aside.out = a.err
	return aside.setup(ctx, setupOptions{})
}

// installLima has Homebrew install Lima.
func (a *app) installLima(ctx context.Context) error {
	if _, err := exec.LookPath(a.vm.Limactl); err == nil {
		a.note("Lima is there already")
		return nil
	}
	if runtime.GOOS != "darwin" {
		return &lima.Error{Kind: lima.ErrHost, Msg: "there is no limactl on this host", Hint: "install Lima 2.0 or newer: lima-vm.io/docs/installation"}
	}
	brew, err := exec.LookPath("brew")
	if err != nil {
		return &lima.Error{Kind: lima.ErrHost, Msg: "there is no Homebrew to install Lima with", Hint: "install Homebrew (brew.sh) or Lima 2.0 or newer (lima-vm.io), then run mvm bootstrap again"}
	}
	a.note("installing Lima with Homebrew")
	// Interrupted, it is to end by itself: killed, it may leave half of it.
	err = run.Run(ctx, run.Command{Name: brew, Args: []string{"install", "lima"}, Stdin: a.in, Stdout: a.err, Stderr: a.err, Grace: time.Minute})
	if err != nil {
		return fmt.Errorf("cannot install Lima: %w", err)
	}
	return nil
}

func (a *app) setup(ctx context.Context, o setupOptions) error {
	host, err := lima.Detect(ctx, runtime.GOOS)
	if err != nil {
		return err
	}
	settings, err := a.settings(o)
	if err != nil {
		return err
	}
	if settings.Machine, err = host.Choose(settings.Machine); err != nil {
		return fmt.Errorf("cannot set up: %w", err)
	}
	fmt.Fprintln(a.out, host.Says(settings.Machine))
	if o.check {
		return nil
	}
	made, err := a.vm.Setup(ctx, host, settings, o.recreate)
	if err != nil {
		return fmt.Errorf("cannot set up: %w", err)
	}
	if err := a.saveSettings(settings); err != nil {
		return err
	}
	word := "setup"
	if !made {
		word = "bootstrap" // nobody has installed the packages
	}
	return a.proxy(ctx, []string{word, "--tier", settings.Machine.Tier()})
}

func (a *app) settingsFile() string { return filepath.Join(a.vm.Dir, a.vm.Name+".json") }

// settings are those of the last setup with what was said now on top, so that
// setup without flags changes nothing.
func (a *app) settings(o setupOptions) (lima.Settings, error) {
	s := lima.Settings{Engine: lima.EngineDocker, CPUs: 4, MemGiB: 8, DiskGiB: 100}
	data, err := os.ReadFile(a.settingsFile())
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("cannot read the Lima VM's settings: %s: %w", a.settingsFile(), err)
	}
	if o.machine != "" {
		s.Machine = lima.Machine(o.machine)
	}
	if o.Engine != "" {
		s.Engine = o.Engine
	}
	for _, n := range []struct{ to, from *int }{{&s.CPUs, &o.CPUs}, {&s.MemGiB, &o.MemGiB}, {&s.DiskGiB, &o.DiskGiB}} {
		if *n.from < 0 {
			return s, &tenant.InputError{Msg: "the Lima VM cannot have less than nothing", Hint: "see mvm setup --help"}
		}
		if *n.from > 0 {
			*n.to = *n.from
		}
	}
	return s, nil
}

func (a *app) saveSettings(s lima.Settings) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(a.settingsFile(), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot keep the Lima VM's settings: %w", err)
	}
	return nil
}
