package vmm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/proc"
)

// Launch is how a VMM is started.
type Launch struct {
	Path string // of the binary: inside Root where there is one
	Args []string
	Root string // the new root directory; "" keeps the caller's

	UID, GID  int  // the VMM's
	KeepRoot  bool // start as root: the jailer changes root and user itself
	NoNetwork bool // in an empty network namespace, for who is handed the TAP

	Cgroup Cgroup

	Stdout, Stderr io.Writer  // nil discards
	Files          []*os.File // become descriptors 3 and up; the caller closes its own
}

// Process is a running VMM. It is the child of one operating system thread
// that lives exactly as long, so that its parent-death signal means the death
// of the whole program.
type Process struct {
	proc  *os.Process
	id    proc.ID
	uid   int // its user, and
	gid   int // group
	done  chan struct{}
	state *os.ProcessState // valid once done is closed
	ended time.Time
	stdin *os.File // our end of the guest's serial console's input
}

// drainDeadline bounds how long output is read after the VMM's end. Nothing
// else should hold the pipe, and nobody shall wait for it for ever.
const drainDeadline = 2 * time.Second

// Start starts the VMM as l says: with an empty environment, no open files but
// its own, no way to gain privileges, in a session and an IPC namespace of its
// own, and to be killed when this program ends.
func (l Launch) Start() (*Process, error) {
	std, err := openStdio(l.Stdout, l.Stderr)
	if err != nil {
		return nil, err
	}
	p := &Process{uid: l.UID, gid: l.GID, done: make(chan struct{}), stdin: std.stdin}
	started := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it has given up gaining privileges,
		// and it ends with this goroutine.
		runtime.LockOSThread()
		err := l.start(p, std.child)
		std.closeChild()
		started <- err
		if err != nil {
			return
		}
		p.state, _ = p.proc.Wait() // fails only for processes that are not our children
		p.ended = time.Now()
		std.drain(drainDeadline)
		close(p.done)
	}()
	if err := <-started; err != nil {
		std.drain(drainDeadline)
		return nil, fmt.Errorf("cannot start %s: %w", l.Path, err)
	}
	return p, nil
}

// start runs on the thread that becomes the VMM's parent.
func (l Launch) start(p *Process, files []*os.File) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot give up gaining privileges: %w", err)
	}
	// Whatever this program inherited or a library opened without
	// close-on-exec stays here. The child's own are set up after this.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("cannot keep descriptors from the VMM: %w", err)
	}
	pidfd := -1
	attr := &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd, Chroot: l.Root, Cloneflags: unix.CLONE_NEWIPC,
	}
	if l.NoNetwork {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if l.UID == 0 || l.GID == 0 {
		return errors.New("a VMM never runs as root")
	}
	if !l.KeepRoot {
		attr.Credential = &syscall.Credential{Uid: uint32(l.UID), Gid: uint32(l.GID)}
	}
	start := func() (err error) {
		p.proc, err = os.StartProcess(l.Path, append([]string{l.Path}, l.Args...), &os.ProcAttr{
			Dir: "/", Env: []string{}, Files: append(files, l.Files...), Sys: attr,
		})
		return err
	}
	place := func(_ *syscall.SysProcAttr, start func() error) error { return start() }
	if l.Cgroup != nil {
		place = l.Cgroup.Place
	}
	err := place(attr, start)
	if err == nil {
		err = p.identify(pidfd)
	}
	if err != nil && p.proc != nil {
		err = errors.Join(err, p.proc.Kill())
		p.proc.Wait()
	}
	return err
}

// identify finds out who the process is on the host.
func (p *Process) identify(pidfd int) error {
	pid := p.proc.Pid
	if pidfd >= 0 { // Linux before 5.4 has none
		defer unix.Close(pidfd)
		var err error
		if pid, err = HostPID(pidfd); err != nil {
			return err
		}
	}
	var err error
	p.id, err = proc.Find(pid)
	return err
}

// ID is the process as the host's /proc shows it: its pid differs from the
// caller's view where the caller has a PID namespace of its own.
func (p *Process) ID() proc.ID { return p.id }

// Done is closed when the process has ended and its output was handed on.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended is the exit code, or -1 and the signal, and when that was. It is
// valid once Done is closed.
func (p *Process) Ended() (code int, signal syscall.Signal, at time.Time) {
	if p.state == nil {
		return -1, 0, p.ended
	}
	if status, ok := p.state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return -1, status.Signal(), p.ended
	}
	return p.state.ExitCode(), 0, p.ended
}

// Type writes to the VMM's standard input, which is that of its guest's serial
// console. It waits so long at most for a guest that does not take it.
func (p *Process) Type(b []byte, atMost time.Duration) error {
	if err := p.stdin.SetWriteDeadline(time.Now().Add(atMost)); err != nil {
		return err
	}
	_, err := p.stdin.Write(b)
	return err
}

// Kill ends the process at once. It is no error if it has ended already.
func (p *Process) Kill() error {
	if err := p.proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot kill process %d: %w", p.id.PID, err)
	}
	return nil
}

// HostPID is the pid that the process behind pidfd has in the PID namespace
// of the mounted /proc.
func HostPID(pidfd int) (int, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if value, ok := strings.CutPrefix(line, "Pid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(value))
			if err == nil && pid > 0 {
				return pid, nil
			}
		}
	}
	return 0, errors.New("/proc does not show the process")
}

// stdio are the three standard descriptors of a VMM: an input that stays open,
// and two pipes.
type stdio struct {
	stdin   *os.File   // our end
	child   []*os.File // the VMM's ends
	readers []*os.File
	copying sync.WaitGroup
}

func openStdio(stdout, stderr io.Writer) (*stdio, error) {
	s := &stdio{}
	in, keep, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.stdin, s.child = keep, []*os.File{in}
	for _, to := range []io.Writer{stdout, stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			s.closeChild()
			s.drain(0)
			return nil, err
		}
		s.child, s.readers = append(s.child, w), append(s.readers, r)
		s.copying.Go(func() { HandOn(to, r) })
	}
	return s, nil
}

func (s *stdio) closeChild() {
	for _, f := range s.child {
		f.Close()
	}
}

// drain waits until everything was handed on, at most for so long: a reader
// that something else holds open is closed, a writer that hangs is left.
func (s *stdio) drain(atMost time.Duration) {
	copied := make(chan struct{})
	go func() {
		s.copying.Wait()
		close(copied)
	}()
	select {
	case <-copied:
	case <-time.After(atMost):
	}
	for _, r := range s.readers {
		r.Close()
	}
	s.stdin.Close()
}

// HandOn copies from r to w until r ends. A writer that fails, or that is
// nil, loses what it is given: the VMM never waits for it.
func HandOn(w io.Writer, r io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && w != nil {
			if _, werr := w.Write(buf[:n]); werr != nil {
				w = nil
			}
		}
		if err != nil {
			return
		}
	}
}
