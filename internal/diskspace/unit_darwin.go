package diskspace

import "golang.org/x/sys/unix"

// unit is what the blocks are counted in.
func unit(s *unix.Statfs_t) uint64 { return uint64(s.Bsize) }
