package diskspace

import "golang.org/x/sys/unix"

// unit is what the blocks are counted in: fragments. The block size is what the
// file system likes to be read and written in; FUSE's and virtiofs tell another.
func unit(s *unix.Statfs_t) uint64 { return uint64(s.Frsize) }
