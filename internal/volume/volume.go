// Package volume makes and keeps the ext4 images that a guest gets as disks:
// the data volume and others of its kind, which live as long as their tenant,
// copies of folders of the host, and the secrets volume, made in memory for each
// run from secrets.json.
//
// It owns what is inside these images and how they are changed safely. It
// never mounts one and makes no loop device: a tenant's guest writes its data
// volume as it likes, so the host's kernel must not read it. It must not know
// where volumes are kept, what a tenant is or whether a VM runs.
package volume

import "errors"

var (
	// ErrInUse is inside the error of an operation on an image that something
	// else, such as a running VM, holds.
	ErrInUse = errors.New("the volume is in use")

	// ErrForeign is inside the error about an image that is no ext4 file
	// system of a kind that mvm makes.
	ErrForeign = errors.New("not an ext4 volume")

	// ErrDamaged is inside the error about an ext4 image that needs a repair
	// which may lose data, so that a person has to ask for it.
	ErrDamaged = errors.New("the volume's file system is damaged")
)
