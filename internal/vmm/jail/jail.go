// Package jail builds the folder that becomes a VMM's root directory.
//
// It owns the layout inside the jail: which file has which name there. The
// machine's files are bind mounts on a small tmpfs: nothing is copied,
// hard-linked or chowned. It belongs into a private mount namespace, where all
// of it vanishes with the last process; outside one, Remove takes it away.
package jail

import (
	"path/filepath"
)

// The names of the machine's files inside the jail.
const (
	Kernel  = "/kernel"
	Initrd  = "/initrd"
	Rootfs  = "/rootfs.ext4"
	Data    = "/data.ext4"
	Secrets = "/secrets.ext4" // made inside the jail's tmpfs by the caller
	Config  = "/fc.final.json"
	Run     = "/run" // a tmpfs of the VMM's own, for its sockets
)

// Volume is the name of a further disk inside the jail, by its device in the
// guest.
func Volume(device string) string { return "/" + device + ".ext4" }

// Root is the jail of the VMM with this id below dir. Firecracker's jailer
// insists on the shape of it.
func Root(dir, id string) string { return filepath.Join(dir, "firecracker", id, "root") }

// Needs are what a VMM itself needs inside its jail.
type Needs struct {
	Binds   []Bind   // read-only
	Devices []string // such as /dev/net/tun: of the same name and kind as the host's
	Links   []Link
}

// Bind is a file or folder of the host at a place in the jail.
type Bind struct{ Host, Jail string }

// Link is a symbolic link in the jail.
type Link struct{ Path, Target string }

// Spec is a jail to make.
type Spec struct {
	Root     string // see Root
	UID, GID int    // the VMM's

	Kernel, Rootfs string // files of the host, bound read-only
	Initrd         string // "" without one
	Data           string // bound writable; it belongs to the VMM's user already
	Volumes        []Bind // further disks, bound writable, of the same user
	SizeMiB        int    // of the tmpfs, for the secrets and the VMM's own files

	Needs Needs
}
