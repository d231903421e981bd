package tenant

import (
	"crypto/sha256"
	"encoding/binary"
)

// Where VMMs' uids are, unless a host's settings say otherwise: above what
// systemd gives to containers, and far above what hosts give to people and, as
// subordinate ids, to the people's own containers. Whoever could become a VMM's
// user could read its guest's memory.
const (
	firstUID    = 1_880_000_000
	uidsPerRoot = 1 << 17 // twice the largest subnet: the dev microVM's own is below
	uidSlots    = 2000
)

// UIDBase is the uid of the first VMM of a root. The default root has the first
// slot; the others, which have a scope, one of the rest.
func UIDBase(scope string) int {
	if scope == "" {
		return firstUID
	}
	sum := sha256.Sum256([]byte("mvm/uid\x00" + scope))
	return firstUID + uidsPerRoot*int(1+binary.BigEndian.Uint64(sum[:])%(uidSlots-1))
}
