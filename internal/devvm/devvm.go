// Package devvm is the developer's own microVM: a preset tenant that goes
// through the same lifecycle, in a state directory of its own below the
// tenants' one. So it has its own bridge, addresses, firewall table, cgroup and
// locks, is never listed among tenants, and neither reaches the other.
//
// It knows no flags and prints nothing.
package devvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

const (
	// ID is the microVM's name, and the guest's host name.
	ID = "dev"
	// Subnet is its network: the host is .1 and the guest .2.
	Subnet = "172.16.0.1/30"
)

// VM is the dev microVM of one state directory.
type VM struct {
	host *lifecycle.Host // nil: it was never made
}

// Dir is its state directory below the tenants' one.
func Dir(root string) string { return store.DevRoot(root) }

// Existing is Open for who only looks at it or ends it: where no dev microVM
// was ever made, none is begun.
func Existing(main *lifecycle.Host, say func(format string, args ...any)) (*VM, error) {
	if _, err := os.Stat(Dir(main.Store.Root)); errors.Is(err, fs.ErrNotExist) {
		return &VM{}, nil
	}
	return Open(main, say)
}

// existing is the dev microVM's state directory; nil where there is none.
func existing(main *lifecycle.Host) (*VM, error) {
	vm, err := Existing(main, main.Say)
	if err != nil || vm.host == nil {
		return nil, err
	}
	return vm, nil
}

// exists says whether there is one, in whatever state.
func (v *VM) exists() bool { return v.host != nil && v.host.Store.Exists(ID) }

// Reconcile looks after the tenants and then after the dev microVM, where there
// is one.
func Reconcile(ctx context.Context, main *lifecycle.Host, dryRun bool) ([]lifecycle.Act, error) {
	acts, err := main.Reconcile(ctx, dryRun)
	if ctx.Err() != nil {
		return acts, err
	}
	vm, openErr := existing(main)
	if vm == nil {
		return acts, errors.Join(err, openErr)
	}
	dev, devErr := vm.host.Reconcile(ctx, dryRun)
	for _, a := range dev {
		a.Tenant, a.What = "", "dev microVM: "+a.What
		acts = append(acts, a)
	}
	return acts, errors.Join(err, devErr)
}

// GC removes what builds for tenants and for the dev microVM left and none of
// them uses. The latter's is named by its place below the state directory.
func GC(ctx context.Context, main *lifecycle.Host, dryRun bool) ([]build.GCItem, error) {
	items, err := main.GC(ctx, dryRun)
	if ctx.Err() != nil {
		return items, err
	}
	vm, openErr := existing(main)
	if vm == nil {
		return items, errors.Join(err, openErr)
	}
	dev, devErr := vm.host.GC(ctx, dryRun)
	for _, i := range dev {
		i.Name = filepath.Base(vm.host.Store.Root) + "/" + i.Name
		items = append(items, i)
	}
	return items, errors.Join(err, devErr)
}

// Open takes over what the tenants' host is set up with: tier, VMM and engine.
// say tells a person what is being done.
func Open(main *lifecycle.Host, say func(format string, args ...any)) (*VM, error) {
	s, err := store.Open(Dir(main.Store.Root))
	if err != nil {
		return nil, err
	}
	c := main.Config
	c.Network.Subnet, c.Network.Bridge = Subnet, ""
	// Next to the tenants' uids, which follow the base.
	c.Limits.UIDBase--
	// The supervisor reads it from there.
	data, err := c.Encode()
	if err != nil {
		return nil, fmt.Errorf("cannot write the dev microVM's settings: %w", err)
	}
	have, err := os.ReadFile(s.ConfigFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the dev microVM's settings: %w", err)
	}
	if string(have) != string(data) {
		if err := atomicfile.Write(s.ConfigFile(), data, 0o600); err != nil {
			return nil, err
		}
	}
	h, err := lifecycle.Open(s.Root)
	if err != nil {
		return nil, err
	}
	h.Say, h.Parent = say, main
	return &VM{host: h}, nil
}

// Wish is what a person said about the microVM. What is not said stays as it
// is, or is the default of the first start.
type Wish struct {
	Flake   string // it and the folders are taken from Dir where they are relative
	Dir     string
	Profile string
	VCPUs   int
	MemMiB  int
	Volumes []tenant.Volume // see tenant.Spec.ChangeVolumes
}

func (w Wish) empty() bool {
	return w.Flake == "" && w.Profile == "" && w.VCPUs == 0 && w.MemMiB == 0 && len(w.Volumes) == 0
}

func (w Wish) apply(s *tenant.Spec) {
	set(&s.FlakeRef, w.Flake)
	set(&s.Profile, w.Profile)
	set(&s.VCPUs, w.VCPUs)
	set(&s.MemMiB, w.MemMiB)
	s.ChangeVolumes(w.Volumes)
}

func set[T comparable](to *T, value T) {
	var zero T
	if value != zero {
		*to = value
	}
}

// Events are what a start tells on its way.
type Events struct {
	Build build.Progress
	Run   func(supervisor.Progress)
}

// Started is what start did.
type Started struct {
	State   tenant.State
	Already bool // it ran, and answers
	Ready   time.Duration
}

// Start brings the microVM from whatever state it is in to one that answers on
// SSH. What is there already is left as it is.
func (v *VM) Start(ctx context.Context, w Wish, e Events) (Started, error) {
	// One after the other: a guest that another command has only just started
	// is not to be taken for stuck.
	lock, err := v.host.Store.LockStart(ctx, ID, v.host.BuildWait)
	if err != nil {
		return Started{}, err
	}
	defer lock.Unlock()
	if err := v.ensure(ctx, w); err != nil {
		return Started{}, err
	}
	status, err := v.host.Observe(ID)
	if err != nil {
		return Started{}, err
	}
	if !status.Running {
		if _, _, err := v.host.Build(ctx, ID, lifecycle.BuildOptions{Progress: e.Build}); err != nil {
			return Started{}, fmt.Errorf("cannot build it: %w", err)
		}
		return v.run(ctx, e)
	}
	// It says that it runs. One that does not answer soon is stuck.
	probeCtx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if v.answers(probeCtx) {
		return Started{State: status.State, Already: true}, nil
	}
	if ctx.Err() != nil {
		return Started{}, ctx.Err()
	}
	if status.Phase == tenant.Starting {
		return v.run(ctx, e) // by a command that was killed
	}
	v.host.Say("the dev microVM runs but does not answer on SSH: starting it anew")
	if _, err := v.host.Stop(ctx, ID, lifecycle.StopOptions{Force: true}); err != nil {
		return Started{}, fmt.Errorf("cannot stop it: %w", err)
	}
	return v.run(ctx, e)
}

// answerTimeout is how long a guest that runs may take to answer before it is
// taken for stuck. One that is only now booting is given it, too.
const answerTimeout = 30 * time.Second

// answers waits for the guest's answer on SSH until ctx ends.
func (v *VM) answers(ctx context.Context) bool {
	target, err := v.host.Target(ID)
	if err != nil {
		return false
	}
	return ssh.Await(ctx, target, nil) == nil
}

func (v *VM) run(ctx context.Context, e Events) (Started, error) {
	ran, err := v.host.Run(ctx, ID, lifecycle.RunOptions{Progress: e.Run})
	return Started{State: ran.State, Ready: ran.Ready}, err
}

// ensure makes the microVM, or changes what is asked to be another.
func (v *VM) ensure(ctx context.Context, w Wish) error {
	if v.host.Store.Exists(ID) {
		if w.empty() {
			return nil
		}
		changed, err := v.host.Set(ctx, ID, w.Dir, w.apply)
		if err != nil {
			return err
		}
		for _, c := range changed.Next {
			v.host.Say("from the next start on: %s", c)
		}
		for _, c := range changed.Make {
			v.host.Say("built and used at the next start: %s", c)
		}
		return nil
	}
	spec := tenant.Spec{TenantID: ID}
	w.apply(&spec)
	spec.Defaults()
	_, err := v.host.Create(ctx, spec, lifecycle.CreateOptions{Dir: w.Dir})
	return err
}

// Host is its state directory, for what is done with it as with any tenant. It
// must be there.
func (v *VM) Host() (*lifecycle.Host, error) {
	if !v.exists() {
		return nil, missing()
	}
	return v.host, nil
}

// Target is how to reach the guest. It must run.
func (v *VM) Target() (ssh.Target, error) {
	if _, err := v.Host(); err != nil {
		return ssh.Target{}, err
	}
	status, err := v.host.Observe(ID)
	if err != nil {
		return ssh.Target{}, err
	}
	if !status.Running {
		return ssh.Target{}, &lifecycle.Error{Kind: lifecycle.ErrState, Msg: status.Words(), Hint: "mvm dev starts it"}
	}
	return v.host.Target(ID)
}

func missing() error {
	return &lifecycle.Error{Kind: lifecycle.ErrState, Msg: "there is none", Hint: "mvm dev makes it, from the flake in the working directory or --flake"}
}

// Stop stops it. One that does not run, or is not there, is fine.
func (v *VM) Stop(ctx context.Context) (already bool, err error) {
	if !v.exists() {
		return true, nil
	}
	return v.host.Stop(ctx, ID, lifecycle.StopOptions{})
}

// Remains says whether there is anything that Destroy would remove.
func (v *VM) Remains() (bool, error) {
	if v.host == nil {
		return false, nil
	}
	there, err := v.host.Remains(ID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return there, err
}

// Destroy removes it with its data and its network. One that is not there is
// fine.
func (v *VM) Destroy(ctx context.Context) (already bool, err error) {
	if v.host == nil {
		return true, nil
	}
	done, err := v.host.Destroy(ctx, ID, lifecycle.DestroyOptions{WipeVolumes: true})
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err == nil {
		_, err = v.host.RemoveNetwork(ctx)
	}
	return done.Already, err
}

// Status is what is observed now.
type Status struct {
	There     bool             `json:"there"`
	MicroVM   lifecycle.Status `json:"microvm"`
	SSH       string           `json:"ssh"`        // answers, does not answer, or -
	DiskBytes int64            `json:"disk_bytes"` // what its volumes take on the host
}

// sshTimeout is how long status waits for an answer.
const sshTimeout = 3 * time.Second

// Status looks at it.
func (v *VM) Status(ctx context.Context) (Status, error) {
	s := Status{SSH: "-"}
	if !v.exists() {
		return s, nil
	}
	var err error
	s.There = true
	if s.MicroVM, err = v.host.Observe(ID); err != nil {
		return s, err
	}
	s.DiskBytes = v.host.DiskBytes(ID, s.MicroVM.Spec.Volumes)
	if !s.MicroVM.Running {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sshTimeout)
	defer cancel()
	s.SSH = "does not answer"
	if v.answers(ctx) {
		s.SSH = "answers"
	}
	return s, nil
}
