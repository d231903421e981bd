package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/auser/mvm/internal/tenant"
)

// absFolders makes the folders among the volumes independent of the working
// directory, and refuses what cannot be: a folder that is none, and a volume
// that would shrink. What is as before is not looked at again.
func (h *Host) absFolders(have, want tenant.Volumes, dir string) (tenant.Volumes, error) {
	want = slices.Clone(want)
	for i, v := range want {
		before, there := have.At(v.Mount)
		if there && before == v {
			continue
		}
		if v.Folder == "" {
			if v.SizeMiB < before.SizeMiB {
				return nil, &tenant.InputError{
					Msg:  fmt.Sprintf("the volume %s has %d MiB and cannot shrink", v.Mount, before.SizeMiB),
					Hint: "mount a new one at another place and copy what is to be kept",
				}
			}
			continue
		}
		if !filepath.IsAbs(v.Folder) {
			v.Folder = filepath.Join(dir, v.Folder)
		}
		v.Folder = filepath.Clean(v.Folder)
		if err := h.checkFolder(v.Folder); err != nil {
			return nil, &tenant.InputError{Msg: fmt.Sprintf("volume %s: %v", v.Mount, err), Hint: "name a folder of this host, or a size such as 512M or 20G"}
		}
		want[i] = v
	}
	return want, nil
}

// checkFolder refuses what is no folder, and a guest's look at what mvm keeps:
// other tenants' secrets are there.
func (h *Host) checkFolder(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", folder)
	}
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	roots := []string{h.Store.Root}
	if h.Parent != nil {
		roots = append(roots, h.Parent.Store.Root)
	}
	for _, root := range roots {
		if holds(real, root) || holds(root, real) {
			return fmt.Errorf("%s holds the state directory %s, or lies in it", folder, root)
		}
	}
	return nil
}

// holds says whether the folder dir is path or one above it.
func holds(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
