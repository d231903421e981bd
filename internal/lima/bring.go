package lima

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Bring copies what a command line reads of this host and names it as it is
// known inside.
func (vm *VM) Bring(ctx context.Context, in *Inputs, dir string, env []string) error {
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
	ref, err := vm.tenantFlake(ctx, in, env)
	if err != nil || ref == "" || !IsLocal(ref) {
		return err
	}
	if path, err := localPath(ref); err != nil {
		return err
	} else if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		vm.Say("%s is not on this host: building what the Lima VM has of it", path)
		return nil
	}
	_, err = vm.Sync(ctx, ref, dir)
	return err
}

// tenantFlake is where the tenant's guest is defined. Of a tenant that cannot
// be shown, the command itself will say what is wrong.
func (vm *VM) tenantFlake(ctx context.Context, in *Inputs, env []string) (string, error) {
	const script = `/usr/local/bin/mvm "$@" --json 2>/dev/null || echo "{}"`
	words := append(append([]string{"sudo", "env"}, env...), "sh", "-c", script, "mvm", "tenant", "show", in.Tenant)
	if in.Root != "" {
		words = append(words, "--root", in.Root)
	}
	out, err := vm.inside(ctx, nil, words...)
	if err != nil {
		return "", err
	}
	var shown struct {
		Spec struct {
			FlakeRef string `json:"flake_ref"`
		} `json:"spec"`
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		return "", fmt.Errorf("cannot tell where tenant %s is built from: %w", in.Tenant, err)
	}
	return shown.Spec.FlakeRef, nil
}
