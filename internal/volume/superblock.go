package volume

import (
	"encoding/binary"
	"fmt"
	"io"
)

// superblock is what mvm needs to know of an ext4 file system. It is read
// from an image that a guest may have filled with anything, so nothing in it
// is believed beyond what is checked here.
type superblock struct {
	blockSize int64
	blocks    int64
	free      int64
	errors    bool // the guest's kernel met an error in the file system
	dirty     bool // it was not unmounted: the journal has to be replayed
	fresh     bool // it was never mounted
}

func (s superblock) size() int64 { return s.blocks * s.blockSize }

// Offsets in the superblock, which starts 1024 bytes into the image, and bits
// of its fields (linux/fs/ext4/ext4.h).
const (
	superblockAt   = 1024
	superblockSize = 1024

	magic       = 0xef53
	stateValid  = 0x1
	stateErrors = 0x2

	compatJournal     = 0x4
	incompatRecover   = 0x4
	incompatExtents   = 0x40
	incompat64bit     = 0x80
	maxLogBlockSize   = 6 // 64 KiB
	minImportantBytes = superblockAt + superblockSize
)

// readSuperblock reads the superblock of an image of the given size. Its
// errors wrap ErrForeign or, where the file system is larger than the image,
// ErrDamaged.
func readSuperblock(r io.ReaderAt, imageSize int64) (superblock, error) {
	if imageSize < minImportantBytes {
		return superblock{}, fmt.Errorf("%w: it has %d bytes", ErrForeign, imageSize)
	}
	var raw [superblockSize]byte
	if _, err := r.ReadAt(raw[:], superblockAt); err != nil {
		return superblock{}, err
	}
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(raw[at:]) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(raw[at:])) }

	if u16(0x38) != magic {
		return superblock{}, fmt.Errorf("%w: it has no ext4 superblock", ErrForeign)
	}
	if u32(0x18) > maxLogBlockSize {
		return superblock{}, fmt.Errorf("%w: impossible block size", ErrForeign)
	}
	compat, incompat := u32(0x5c), u32(0x60)
	if compat&compatJournal == 0 || incompat&incompatExtents == 0 {
		return superblock{}, fmt.Errorf("%w: it is an older ext file system, without journal or extents", ErrForeign)
	}
	s := superblock{
		blockSize: 1024 << u32(0x18),
		blocks:    u32(0x4),
		free:      u32(0xc),
		errors:    u16(0x3a)&stateErrors != 0,
		fresh:     u32(0x2c) == 0, // the time of the last mount
		dirty:     u16(0x3a)&stateValid == 0 || incompat&incompatRecover != 0,
	}
	if incompat&incompat64bit != 0 {
		s.blocks |= u32(0x150) << 32
		s.free |= u32(0x158) << 32
	}
	if s.blocks <= 0 || s.blocks > imageSize/s.blockSize {
		return superblock{}, fmt.Errorf("%w: it is cut off: the image has %d bytes, the file system %d blocks of %d",
			ErrDamaged, imageSize, s.blocks, s.blockSize)
	}
	s.free = min(max(s.free, 0), s.blocks)
	return s, nil
}
