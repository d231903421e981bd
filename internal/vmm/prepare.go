package vmm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/auser/mvm/internal/vmm/jail"
)

// PrepareJail checks that the jail holds every file that the configuration
// names, and writes the configuration into it. A VMM that misses a file says
// so less clearly.
func PrepareJail(m Machine) error {
	boot := m.Config.BootSource
	paths := map[string]string{"boot-source.kernel_image_path": boot.KernelImagePath}
	if boot.InitrdPath != "" {
		paths["boot-source.initrd_path"] = boot.InitrdPath
	}
	for i, d := range m.Config.Drives {
		paths[fmt.Sprintf("drives[%d].path_on_host", i)] = d.PathOnHost
	}
	for field, path := range paths {
		info, err := os.Lstat(filepath.Join(m.Jail, path))
		if err != nil {
			return fmt.Errorf("cannot start the machine: %s: %w", field, err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("cannot start the machine: %s: %s is no file", field, path)
		}
	}
	// Written anew: a file from before may belong to the VMM's user.
	at := filepath.Join(m.Jail, jail.Config)
	if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot write the machine's configuration: %w", err)
	}
	if err := os.WriteFile(at, m.Config.JSON(), 0o444); err != nil {
		return fmt.Errorf("cannot write the machine's configuration: %w", err)
	}
	return nil
}

// FindTAPs checks that every TAP that the configuration names is there, in the
// caller's network namespace. VMMs would make what is missing, on no bridge.
func FindTAPs(m Machine) error {
	for i, n := range m.Config.NetworkInterfaces {
		if _, err := net.InterfaceByName(n.HostDevName); err != nil {
			return fmt.Errorf("cannot start the machine: network-interfaces[%d].host_dev_name: no TAP %s: %w", i, n.HostDevName, err)
		}
	}
	return nil
}
