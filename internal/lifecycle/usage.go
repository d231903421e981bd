package lifecycle

import (
	"os"
	"syscall"
)

// DiskBytes is what the tenant's data volume takes of the host's disk, blocks
// that it shares with snapshots included; 0 where there is none.
func (h *Host) DiskBytes(id string) int64 {
	info, err := os.Stat(h.Store.Tenant(id).DataVolume())
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Blocks * 512 // stat(2): always units of 512
}
