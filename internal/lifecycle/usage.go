package lifecycle

import "golang.org/x/sys/unix"

// DiskBytes is what the tenant's data volume takes of the host's disk, blocks
// that it shares with snapshots included; 0 where there is none.
func (h *Host) DiskBytes(id string) int64 {
	var st unix.Stat_t
	if err := unix.Stat(h.Store.Tenant(id).DataVolume(), &st); err != nil {
		return 0
	}
	return st.Blocks * 512 // stat(2): always units of 512
}
