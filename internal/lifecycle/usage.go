package lifecycle

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/tenant"
)

// DiskBytes is what the tenant's data volume and the volumes beside it take of
// the host's disk, blocks shared with snapshots included; 0 where there are
// none.
func (h *Host) DiskBytes(id string, beside tenant.Volumes) int64 {
	t := h.Store.Tenant(id)
	sum := fileBytes(t.DataVolume())
	for _, v := range beside {
		sum += fileBytes(t.Volume(v))
	}
	return sum
}

// imageBytes is what the images right below dir take of the disk.
func imageBytes(dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".ext4" {
			sum += fileBytes(filepath.Join(dir, e.Name()))
		}
	}
	return sum
}

// fileBytes is what a file takes of the disk; 0 where there is none.
func fileBytes(path string) int64 {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0
	}
	return st.Blocks * 512 // stat(2): always units of 512
}
