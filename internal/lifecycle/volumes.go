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
func absFolders(have, want tenant.Volumes, dir string) (tenant.Volumes, error) {
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
		info, err := os.Stat(v.Folder)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no folder", v.Folder)
		}
		if err != nil {
			return nil, &tenant.InputError{Msg: fmt.Sprintf("volume %s: %v", v.Mount, err), Hint: "name a folder of this host, or a size such as 512M or 20G"}
		}
		want[i] = v
	}
	return want, nil
}
