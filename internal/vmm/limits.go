package vmm

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// MaxFiles is how many files a VMM and its supervisor may have open.
const MaxFiles = 1024

// LimitSelf bounds this process, and with it the VMMs that it starts: no core
// dumps, which would be a guest's memory on a disk; few open files; and no
// file larger than fileSize, the size of the largest writable disk. It is for
// a supervisor's beginning and only lowers limits.
//
// AllowFile raises the last of them. Without CAP_SYS_RESOURCE, which a
// container may lack, that goes no further than mayBecome, the hard limit here,
// to which a VMM that nothing keeps from asking can go on its own, too.
// Firecracker's seccomp filters keep it from asking.
func LimitSelf(fileSize, mayBecome uint64) error {
	mighty, err := canRaiseLimits()
	if err != nil {
		return err
	}
	if mighty {
		mayBecome = fileSize
	}
	for _, l := range []struct {
		name       string
		resource   int
		soft, hard uint64
	}{
		// One byte holds no dump, and unlike 0 it also keeps the kernel from
		// handing one to a program, such as systemd-coredump.
		{"core dumps", unix.RLIMIT_CORE, 1, 1},
		{"open files", unix.RLIMIT_NOFILE, MaxFiles, MaxFiles},
		{"file sizes", unix.RLIMIT_FSIZE, fileSize, max(fileSize, mayBecome)},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.resource, &now); err != nil {
			return fmt.Errorf("cannot limit %s: %w", l.name, err)
		}
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: min(now.Max, l.soft), Max: min(now.Max, l.hard)}); err != nil {
			return fmt.Errorf("cannot limit %s: %w", l.name, err)
		}
	}
	return nil
}

// canRaiseLimits tells whether this process can go beyond hard limits.
func canRaiseLimits() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return false, fmt.Errorf("cannot see the capabilities: %w", err)
	}
	return caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0, nil
}

// AllowFile lets this process and its VMM p have files of size bytes. It never
// lowers their limits; see LimitSelf for how far it can raise them.
func AllowFile(p *Process, size uint64) error {
	// p began with this process's limit and is raised first, so that what this
	// process may have, p may. To ask p's takes its user's id as well.
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &now); err != nil {
		return fmt.Errorf("cannot see the limit of file sizes: %w", err)
	}
	if now.Cur >= size {
		return nil
	}
	to := unix.Rlimit{Cur: size, Max: max(now.Max, size)}
	if err := p.limitFile(to); err != nil {
		return fmt.Errorf("cannot raise the VMM's limit of file sizes to %d MiB: %w", size>>20, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &to); err != nil {
		return fmt.Errorf("cannot raise the limit of file sizes to %d MiB: %w", size>>20, err)
	}
	return nil
}

// limitFile sets the process's limit of file sizes. Without CAP_SYS_RESOURCE
// only the process's own user may, so this thread takes that user's ids as its
// real ones meanwhile. Its effective ones stay root's, and with them all that
// it may do and that may not be done to it.
func (p *Process) limitFile(to unix.Rlimit) (err error) {
	uid, gid := os.Getuid(), os.Getgid()
	runtime.LockOSThread()
	defer func() {
		back := setRealIDs(uid, gid)
		if back == nil { // else the thread ends with its goroutine
			runtime.UnlockOSThread()
		}
		err = errors.Join(err, back)
	}()
	if err := setRealIDs(p.uid, p.gid); err != nil {
		return err
	}
	return unix.Prlimit(p.proc.Pid, unix.RLIMIT_FSIZE, &to, nil)
}

// setRealIDs changes the real ids of this thread alone, unlike the functions of
// the syscall package, which change those of the whole process.
func setRealIDs(uid, gid int) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), same, same); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), same, same); errno != 0 {
		return errno
	}
	return nil
}
