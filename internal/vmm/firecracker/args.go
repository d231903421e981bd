package firecracker

import (
	"path/filepath"
	"strconv"

	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/jail"
)

// The names of Firecracker's own files in the jail's /run.
const (
	socketName  = "firecracker.socket"
	logName     = "firecracker.log"
	metricsName = "firecracker.metrics"
)

// vmmArgs are Firecracker's own arguments: the machine is in the file, and the
// file is all there is to it.
func vmmArgs() []string {
	return []string{
		"--api-sock", filepath.Join(jail.Run, socketName),
		"--config-file", jail.Config,
		"--log-path", filepath.Join(jail.Run, logName),
		"--level", "Info",
		"--metrics-path", filepath.Join(jail.Run, metricsName),
	}
}

// jailerArgs are the jailer's arguments. It is told no cgroup: it is started
// inside of the right one.
func jailerArgs(m vmm.Machine, binary, base string) []string {
	args := []string{
		"--id", m.ID,
		"--exec-file", binary,
		"--uid", strconv.Itoa(m.UID),
		"--gid", strconv.Itoa(m.GID),
		"--chroot-base-dir", base,
		"--resource-limit", "no-file=" + strconv.Itoa(vmm.MaxFiles),
	}
	return append(append(args, "--"), vmmArgs()...)
}
