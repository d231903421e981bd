package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/store"
)

// Verb is the hidden command that a supervisor runs as.
const Verb = "supervise"

// First is what a supervisor does where its first start fails.
type First bool

const (
	Once   First = false // it ends: somebody waits, and hears why
	Insist First = true  // what the restart policy says, as after any other failure
)

// Progress is one step of a start, as the supervisor reports it.
type Progress struct {
	Step  string        `json:"step,omitempty"`
	Start time.Time     `json:"start,omitzero"`
	Took  time.Duration `json:"took,omitempty"`
	Note  string        `json:"note,omitempty"` // something a person should know
	Up    bool          `json:"up,omitempty"`   // the VMM runs
	Error string        `json:"error,omitempty"`
	Hint  string        `json:"hint,omitempty"`

	Queued  bool `json:"queued,omitempty"`  // nothing more happens until it is the guest's turn to boot
	Stopped bool `json:"stopped,omitempty"` // the error is ErrStopped
	Changed bool `json:"changed,omitempty"` // the error is build.ErrChanged
}

// last says that nothing more is to come.
func (p Progress) last() bool { return p.Up || p.Error != "" }

// The descriptors that a supervisor finds open besides 0, 1 and 2.
const (
	fdLock     = 3
	fdProgress = 4
)

// Spawn starts the tenant's supervisor, detached from this process, and
// returns when the VMM runs. lock is the supervisor's lock, held by the
// caller; from here on the supervisor holds it.
//
// The supervisor is the first process of a PID namespace: whatever ends it,
// the kernel ends everything it started. Its mount namespace holds the jail
// and the secrets, so these vanish with it, too.
func Spawn(ctx context.Context, s *store.Store, id string, first First, lock *store.Lock, progress func(Progress)) error {
	t := s.Tenant(id)
	for _, dir := range []string{t.LogsDir(), t.MetricsDir(), t.RunDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cannot start the supervisor: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find the program of the supervisor: %w", err)
	}
	log, err := openOwnLog(t.SupervisorLog())
	if err != nil {
		return fmt.Errorf("cannot open the supervisor's log: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot start the supervisor: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(self, Verb, "--root", s.Root, fmt.Sprintf("--insist=%t", first), id)
	cmd.Dir = "/"
	cmd.Env = append(crash.Env(), "PATH="+os.Getenv("PATH"), "LANG=C.UTF-8", "GOGC=20", "GOMAXPROCS=2") // small rather than fast
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock.PassOn(), w} // fdLock, fdProgress
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	// What this process was given open, such as a shell script's lock, is not
	// to be held as long as the guest runs.
	err = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		err = cmd.Start()
	}
	w.Close()
	if err != nil {
		return fmt.Errorf("cannot start the supervisor: %w", err)
	}
	lock.Unlock() // here; it is the supervisor's now
	go cmd.Wait() // reaped while this process lives, then by init
	return follow(ctx, r, t.SupervisorLog(), progress)
}

// follow hands on what the supervisor reports until the VMM runs.
func follow(ctx context.Context, r *os.File, log string, progress func(Progress)) error {
	defer context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var p Progress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("cannot understand the supervisor: %w", err)
		}
		switch {
		case p.Stopped:
			return ErrStopped
		case p.Changed:
			return &fault.Error{Kind: build.ErrChanged, Msg: p.Error, Hint: p.Hint}
		case p.Error != "":
			return &fault.Error{Msg: p.Error, Hint: p.Hint}
		case p.Up:
			return nil
		default:
			progress(p)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &fault.Error{Msg: "the supervisor ended before the VMM ran", Hint: "see " + log}
}

// inherit takes over what Spawn left open. Nothing of it may reach the VMM.
func inherit() (*os.File, error) {
	for _, fd := range []int{fdLock, fdProgress} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return nil, errors.New("supervise is started by mvm tenant run, not by hand")
		}
		unix.CloseOnExec(fd)
	}
	return os.NewFile(fdProgress, "progress"), nil
}
