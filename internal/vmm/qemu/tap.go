package qemu

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openTAP attaches to the TAP of this name, which is known to be there. Handed
// on open, it spares QEMU the device node.
func openTAP(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot attach to TAP %s: %w", name, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot attach to TAP %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
