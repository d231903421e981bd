// Command fc-final reads a flake's base configuration and prints what
// Firecracker would be started with for a made-up tenant, or what mvm refuses.
// It serves scripts/check-nix.
package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/auser/mvm/internal/fcconfig"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fc-final:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	base, err := fcconfig.Parse(data)
	if err != nil {
		return err
	}
	config, err := fcconfig.Final(base, fcconfig.Runtime{
		Kernel:  "/kernel",
		Initrd:  "/initrd",
		Rootfs:  "/rootfs.ext4",
		Data:    "/data.ext4",
		Secrets: "/secrets.ext4",
		Boot: fcconfig.BootWords{
			IP:        netip.MustParseAddr("10.50.0.10"),
			Gateway:   netip.MustParseAddr("10.50.0.1"),
			Bits:      24,
			DNS:       []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("192.0.2.54")},
			Hostname:  "a-tenant-whose-id-has-the-most-characters-that-a-dns-label-may",
			MachineID: "00112233445566778899aabbccddeeff",
		},
		VCPUs:  2,
		MemMiB: 512,
		TAP:    "tap-acme",
		MAC:    "02:00:00:00:00:01",
	})
	if err != nil {
		return err
	}
	_, err = out.Write(config.JSON())
	return err
}
