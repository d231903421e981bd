package vmm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MaxFiles is how many files a VMM and its supervisor may have open.
const MaxFiles = 1024

// LimitSelf bounds this process, and with it the VMMs that it starts: no core
// dumps, which would be a guest's memory on a disk; few open files; and no
// file larger than fileSize, the size of the largest writable disk. It is for
// a supervisor's beginning and only lowers limits; AllowFile raises one of them.
func LimitSelf(fileSize uint64) error {
	for _, l := range []struct {
		name     string
		resource int
		most     uint64
	}{
		// One byte holds no dump, and unlike 0 it also keeps the kernel from
		// handing one to a program, such as systemd-coredump.
		{"core dumps", unix.RLIMIT_CORE, 1},
		{"open files", unix.RLIMIT_NOFILE, MaxFiles},
		{"file sizes", unix.RLIMIT_FSIZE, fileSize},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.resource, &now); err != nil {
			return fmt.Errorf("cannot limit %s: %w", l.name, err)
		}
		most := min(now.Max, l.most)
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("cannot limit %s: %w", l.name, err)
		}
	}
	return nil
}

// AllowFile lets this process and its VMM p have files of size bytes. It never
// lowers their limits; to raise them takes CAP_SYS_RESOURCE.
func AllowFile(p *Process, size uint64) error {
	// p began with this process's limit and is raised first, so that what this
	// process may have, p may. To ask p's takes the capability as well.
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &now); err != nil {
		return fmt.Errorf("cannot see the limit of file sizes: %w", err)
	}
	if now.Cur >= size {
		return nil
	}
	for _, pid := range []int{p.proc.Pid, os.Getpid()} {
		if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: max(now.Max, size)}, nil); err != nil {
			return fmt.Errorf("cannot raise the limit of file sizes: %w", err)
		}
	}
	return nil
}
