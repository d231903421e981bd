// Package lima runs mvm inside a Lima VM: it renders the VM's template, makes
// and starts the VM, brings the Linux build of mvm into it, and re-runs command
// lines there as if they ran on this host.
//
// It drives limactl and prints nothing itself. Of the Linux side it knows what
// is the same on every system: snapshots of local sources, and the
// file that declares tenants.
package lima

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/run"
)

// Instance statuses, as limactl names them. Running is not ready.
const (
	StatusMissing = "" // there is none
	StatusRunning = "Running"
	StatusStopped = "Stopped"
	StatusBroken  = "Broken"
	// StatusUnknown stands for limactl's empty word for an instance whose
	// configuration it does not understand.
	StatusUnknown = "Unknown"
)

// Error is a failure that comes with advice.
type Error = fault.Error

// ErrHost means that this host lacks what a Lima VM needs.
var ErrHost = fault.ErrHost

// VM is the Lima instance that mvm runs in.
type VM struct {
	Name    string
	Limactl string // the program; looked up in PATH unless it is a path
	Dir     string // this host's own small files: the lock, the rendered template
	Say     func(format string, args ...any)
	// LinuxBinary is the Linux build of mvm for an architecture of Go's.
	LinuxBinary func(arch string) (string, error)
}

// DefaultName is the instance's name unless MVM_LIMA_VM says otherwise.
const DefaultName = "mvm"

// Instance is one line of `limactl list --json`.
type Instance struct {
	Name   string            `json:"name"`
	Status string            `json:"status"`
	Arch   string            `json:"arch"`
	VMType string            `json:"vmType"`
	Param  map[string]string `json:"param"`
	Config *struct {
		Param map[string]string `json:"param"`
	} `json:"config"` // nil: limactl cannot read it
	Errors messages `json:"errors"`
}

// messages are the errors of an instance. limactl writes them as whatever its
// errors look like as JSON: text, the fields of a struct, or nothing. Only text
// is kept.
type messages []string

func (m *messages) UnmarshalJSON(data []byte) error {
	var all []any
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	for _, one := range all {
		if text, ok := one.(string); ok {
			*m = append(*m, text)
		}
	}
	return nil
}

// Template is the hash of the template that the instance was made with.
func (i Instance) Template() string {
	if h := i.Param["MVM_TEMPLATE"]; h != "" {
		return h
	}
	if i.Config == nil {
		return ""
	}
	return i.Config.Param["MVM_TEMPLATE"]
}

// made says whether mvm setup made the instance. Another may be a person's own.
func (i Instance) made() bool { return i.Template() != "" }

// why is what limactl finds wrong, often nothing, to add to a sentence.
func (i Instance) why() string {
	if len(i.Errors) == 0 {
		return ""
	}
	return ": " + strings.Join(i.Errors, "; ")
}

// unreadable is the error of an instance that limactl can only delete.
func (i Instance) unreadable() error {
	if i.Status == StatusMissing || i.Config != nil {
		return nil
	}
	return &Error{Kind: ErrHost, Msg: fmt.Sprintf("limactl cannot read the Lima VM %s%s", i.Name, i.why()),
		Hint: "limactl list says why; mvm setup --recreate makes it anew: everything in it is lost"}
}

// Look observes the instance. One that is missing has StatusMissing.
func (vm *VM) Look(ctx context.Context) (Instance, error) {
	if err := vm.checkLimactl(); err != nil {
		return Instance{}, err
	}
	// Without a name: limactl fails for a name it does not know, and says so in
	// words that may change.
	out, err := run.Output(ctx, vm.Limactl, "list", "--json")
	if err != nil {
		return Instance{}, fmt.Errorf("cannot look at the Lima VM: %w", err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var i Instance
		if err := dec.Decode(&i); errors.Is(err, io.EOF) {
			return Instance{Name: vm.Name}, nil
		} else if err != nil {
			return Instance{}, fmt.Errorf("cannot look at the Lima VM: limactl list: %w", err)
		}
		if i.Name == vm.Name {
			if i.Status == "" {
				i.Status = StatusUnknown
			}
			return i, nil
		}
	}
}

func (vm *VM) checkLimactl() error {
	if _, err := exec.LookPath(vm.Limactl); err != nil {
		return &Error{Kind: ErrHost, Msg: "there is no limactl on this host", Hint: "mvm bootstrap installs Lima"}
	}
	return nil
}

// shell is the argv that runs words in the VM. limactl would take a leading
// K=V for environment: words starts with a program. --tty=false keeps limactl
// from asking questions; whether there is a terminal is decided by its stdout.
func (vm *VM) shell(words ...string) []string {
	return append([]string{"--tty=false", "shell", "--workdir", "/", vm.Name}, words...)
}

// inside runs a command in the VM that takes and gives plain streams.
func (vm *VM) inside(ctx context.Context, stdin io.Reader, words ...string) (string, error) {
	var out bytes.Buffer
	err := run.Run(ctx, run.Command{Name: vm.Limactl, Args: vm.shell(words...), Stdin: stdin, Stdout: &out})
	return out.String(), err
}

// probe is what one look inside tells.
type probe struct {
	ready  string // not empty: provisioning has got to its end
	failed string // what provisioning could not do
	binary string // sha256 of the mvm inside; empty: there is none
}

// probeScript prints one line for each file named, what is in it.
const probeScript = `for file in "$@"; do printf "%s\n" "$(cat "$file" 2>/dev/null)"; done
sha256sum /usr/local/bin/mvm 2>/dev/null || echo`

// limaMarker is where Lima says that its boot scripts have ended.
const limaMarker = "/run/lima-boot-done"

// probe looks inside. Of a VM that is a person's own, Lima's word has to do.
func (vm *VM) probe(ctx context.Context, inst Instance) (probe, error) {
	ready := marker
	if !inst.made() {
		ready = limaMarker
	}
	out, err := vm.inside(ctx, nil, "sh", "-c", probeScript, "mvm", ready, failed)
	if err != nil {
		return probe{}, err
	}
	lines := strings.SplitN(out, "\n", 3)
	if len(lines) < 3 {
		return probe{}, fmt.Errorf("cannot look inside the Lima VM: it says %q", out)
	}
	sum, _, _ := strings.Cut(lines[2], " ")
	return probe{ready: lines[0], failed: lines[1], binary: strings.TrimSpace(sum)}, nil
}

// waitReady waits for the marker. limactl's own word is not enough: it says
// Running while the VM boots, and ready when a provisioning script has failed.
func (vm *VM) waitReady(ctx context.Context, inst Instance, timeout time.Duration) (probe, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	answered := false
	for {
		p, err := vm.probe(ctx, inst)
		answered = answered || err == nil
		switch {
		case err == nil && p.ready != "":
			return p, nil
		case err == nil && p.failed != "":
			return p, &Error{
				Msg:  fmt.Sprintf("the Lima VM %s could not be prepared: %s", vm.Name, p.failed),
				Hint: fmt.Sprintf("mvm setup tries again; limactl shell %s sudo cat /var/log/cloud-init-output.log shows what was said", vm.Name),
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return probe{}, ctx.Err()
			}
			return probe{}, vm.notReady(timeout, answered, err)
		}
	}
}

// notReady is the error of a VM that runs and was not ready in time; answered
// says whether anybody could look inside, and err why not the last time.
func (vm *VM) notReady(timeout time.Duration, answered bool, err error) error {
	if !answered {
		e := &Error{
			Msg:  fmt.Sprintf("the Lima VM %s runs, but nothing in it answered within %s", vm.Name, timeout),
			Hint: "mvm lima stop, then run the same command again",
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			e.Msg += ": " + err.Error()
		}
		return e
	}
	return &Error{
		Msg:  fmt.Sprintf("the Lima VM %s runs, but its provisioning did not end within %s", vm.Name, timeout),
		Hint: fmt.Sprintf("see what it says: limactl shell %s sudo cat /var/log/cloud-init-output.log; then run mvm setup again", vm.Name),
	}
}

// lock serialises what changes the VM. Its file stays.
func (vm *VM) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(vm.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot lock the Lima VM: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(vm.Dir, vm.Name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the Lima VM: %w", err)
	}
	if err := lockFile(ctx, f, unix.LOCK_EX, func() { vm.Say("waiting for another mvm that prepares the Lima VM") }); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock the Lima VM: %w", err)
	}
	return func() { f.Close() }, nil
}
