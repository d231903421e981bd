package lima

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/auser/mvm/internal/fleet"
	"github.com/auser/mvm/internal/source"
	"github.com/auser/mvm/internal/tenant"
)

// Bring copies what a command line reads of this host and names it as it is
// known inside. Of what does not exist there, the command itself will say so.
func (vm *VM) Bring(ctx context.Context, in *Inputs, dir string, env []string) (err error) {
	for _, i := range in.Volumes {
		if in.Args[i], err = vm.bringVolume(ctx, in.Args[i], dir); err != nil {
			return err
		}
	}
	for _, i := range in.Overrides {
		input, folder, ok := strings.Cut(in.Args[i], "=")
		if !ok || folder == "" {
			continue
		}
		if folder, err = vm.bringFolder(ctx, folder, dir); err != nil {
			return err
		}
		in.Args[i] = input + "=" + folder
	}
	if in.Trace != "" {
		in.Args[in.trace] = proxyDir + "/" + strings.ToLower(rand.Text()) + ".trace"
	}
	for _, id := range in.Runs {
		var tenant shown
		if err := vm.ask(ctx, in, env, &tenant, "tenant", "show", id); err != nil {
			return err
		}
		if err := vm.refreshFolders(ctx, tenant.Spec.Volumes); err != nil {
			return err
		}
	}
	if in.Dev {
		var status struct {
			Tier string `json:"tier"`
			Dev  struct {
				There   bool  `json:"there"`
				MicroVM shown `json:"microvm"`
			} `json:"dev"`
		}
		if err := vm.ask(ctx, in, env, &status, "status"); err != nil {
			return err
		}
		in.Undecided = status.Tier == ""
		if err := vm.refreshFolders(ctx, status.Dev.MicroVM.Spec.Volumes); err != nil {
			return err
		}
		switch {
		case in.named:
		case status.Dev.There:
			return vm.refresh(ctx, status.Dev.MicroVM.Spec.FlakeRef, dir)
		case source.HoldsFlake(dir):
			in.nameFlake()
		}
	}
	for _, i := range in.Flakes {
		s, err := vm.Sync(ctx, in.Args[i], dir)
		if err != nil {
			return err
		}
		in.Args[i] = s.Ref
	}
	if in.Tenant == "" {
		return nil
	}
	var tenant shown
	if err := vm.ask(ctx, in, env, &tenant, "tenant", "show", in.Tenant); err != nil {
		return err
	}
	return vm.refresh(ctx, tenant.Spec.FlakeRef, dir)
}

// takeScript prints and removes a file, of which a command may have written none.
const takeScript = `if [ -e "$1" ]; then cat "$1"; rm -f "$1"; fi`

// TakeTrace moves the trace that a command wrote out of the VM. One that nobody
// took is gone when the VM boots again.
func (vm *VM) TakeTrace(ctx context.Context, in Inputs) (string, error) {
	return vm.inside(ctx, nil, "sudo", "sh", "-c", takeScript, "mvm", in.Args[in.trace])
}

// shown is what is of interest of a tenant.
type shown struct {
	ID    string    `json:"tenant_id"`
	Error string    `json:"error"` // it cannot be read
	Spec  shownSpec `json:"spec"`
	State struct {
		Spec shownSpec `json:"spec"` // of the last run, or the one that goes on
	} `json:"state"`
}

type shownSpec struct {
	FlakeRef string        `json:"flake_ref"`
	Volumes  []shownVolume `json:"volumes"`
}

// refresh copies a flake that the VM knows by its path, if it is of this host.
func (vm *VM) refresh(ctx context.Context, ref, dir string) error {
	r, err := source.Parse(ref, dir)
	if err != nil || !r.Local {
		return nil // there is none, or it is the VM's to fetch
	}
	if _, err := os.Stat(r.Path); errors.Is(err, fs.ErrNotExist) {
		vm.Say("%s is not on this host: building what the Lima VM has of it", r.Path)
		return nil
	}
	_, err = vm.Sync(ctx, ref, dir)
	return err
}

// ask reads the JSON that a command inside prints, nothing where it fails.
func (vm *VM) ask(ctx context.Context, in *Inputs, env []string, to any, args ...string) error {
	const script = `/usr/local/bin/mvm "$@" --json 2>/dev/null || echo "{}"`
	words := append(append([]string{"sudo", "env"}, env...), "sh", "-c", script, "mvm")
	words = append(words, args...)
	if in.Root != "" {
		words = append(words, "--root", in.Root)
	}
	out, err := vm.inside(ctx, nil, words...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), to); err != nil {
		return fmt.Errorf("cannot read what mvm %s says in the Lima VM: %w", args[0], err)
	}
	return nil
}

// BringFleet copies the local flakes and folders of a file that declares
// tenants, which names them from dir, and returns the file as it has to be
// inside.
func (vm *VM) BringFleet(ctx context.Context, data []byte, dir string) ([]byte, error) {
	wishes, err := fleet.Parse(data)
	if err != nil {
		return nil, err
	}
	brought := map[string]string{}
	for i := range wishes {
		for n := range wishes[i].Spec.Volumes {
			v := &wishes[i].Spec.Volumes[n]
			if v.Folder == "" {
				continue
			}
			if v.Folder, err = vm.bringFolder(ctx, v.Folder, dir); err != nil {
				return nil, err
			}
		}
		ref := &wishes[i].Spec.FlakeRef
		r, err := source.Parse(*ref, dir)
		if err != nil || !r.Local {
			continue
		}
		abs := r.String()
		if brought[abs] == "" {
			if brought[abs], err = vm.bringOne(ctx, r, *ref == tenant.DefaultFlake); err != nil {
				return nil, err
			}
		}
		*ref = brought[abs]
	}
	return fleet.Encode(wishes)
}

// bringOne copies one flake, where there is one: that there is none is for the
// command inside to say.
func (vm *VM) bringOne(ctx context.Context, r source.Ref, byDefault bool) (string, error) {
	if _, err := os.Stat(r.Path); errors.Is(err, fs.ErrNotExist) || byDefault && !source.HoldsFlake(r.Path) {
		return r.String(), nil
	}
	s, err := vm.Sync(ctx, r.String(), r.Path)
	return s.Ref, err
}
