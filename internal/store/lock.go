package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/flock"
	"github.com/auser/mvm/internal/tenant"
)

// Locks are flock(2) locks on files in locks/ that are never unlinked. The
// kernel releases them when the holder dies. Their order is: start, builds,
// build, tenant, supervisor, boot, network, host, state; the last three are held
// for milliseconds.

const forever = time.Duration(1<<63 - 1)

// Lock is a held lock.
type Lock struct {
	f        *os.File
	outer    *Lock // released after it; may be nil
	passedOn bool
}

// Unlock releases the lock, if there is one and it is not released yet. What is
// written in the file stays and is ignored.
func (l *Lock) Unlock() {
	if l == nil {
		return
	}
	if l.passedOn {
		l.f.Close()
	} else {
		release(l.f)
	}
	l.outer.Unlock()
}

// PassOn is the lock's descriptor, for a process that is to hold the lock from
// now on: Unlock only ends this process's part in it.
func (l *Lock) PassOn() *os.File {
	l.passedOn = true
	return l.f
}

// release gives up the lock on f and closes it. Closing alone is not enough:
// whatever process this one starts at the moment has a copy of the descriptor
// between its fork and its exec.
func release(f *os.File) {
	flock.Lock(f, unix.LOCK_UN) // fails only for what is no open file
	f.Close()
}

// Holder is who holds a lock, as written by itself.
type Holder struct {
	PID   int       `json:"pid"`
	What  string    `json:"what"`
	Since time.Time `json:"since"`
}

// BusyError means that somebody else holds a lock for longer than the caller
// was willing to wait.
type BusyError struct {
	What   string
	Holder Holder
}

func (e *BusyError) Error() string {
	if e.Holder.PID == 0 {
		return e.What + " is busy"
	}
	worked := max(time.Since(e.Holder.Since), 0) // the wall clock may have been set back
	return fmt.Sprintf("%s is busy: process %d (%s) has worked on it for %s", e.What, e.Holder.PID, e.Holder.What, worked.Round(time.Second))
}

func (e *BusyError) Unwrap() error { return fault.ErrState }

// Advice is the hint that goes with the error.
func (e *BusyError) Advice() string {
	return "try again later, or let it wait longer: --wait 10m, where the command has it"
}

// LockTenant locks the tenant against other commands, waiting at most wait.
func (s *Store) LockTenant(ctx context.Context, id string, wait time.Duration) (*Lock, error) {
	return s.lockTenant(ctx, id, "lock", "tenant "+id, wait)
}

// LockStart makes those queue who start the tenant and wait for its guest. It
// comes before all other locks.
func (s *Store) LockStart(ctx context.Context, id string, wait time.Duration) (*Lock, error) {
	return s.lockTenant(ctx, id, "start", "the start of "+id, wait)
}

// LockBuild makes the builds of one tenant queue, and keeps LockBuilds out.
func (s *Store) LockBuild(ctx context.Context, id string, wait time.Duration) (*Lock, error) {
	all, err := s.lockAs(ctx, s.buildsLock(), "building on this host", unix.LOCK_SH, wait)
	if err != nil {
		return nil, err
	}
	lock, err := s.lockTenant(ctx, id, "build", buildOf(id), wait)
	if err != nil {
		all.Unlock()
		return nil, err
	}
	lock.outer = all
	return lock, nil
}

func buildOf(id string) string { return "the build of tenant " + id }

// LockBuilds keeps everybody from building, for what looks at the whole. Where
// a tenant's build is under way it does not wait, and names it.
func (s *Store) LockBuilds(ctx context.Context, wait time.Duration) (*Lock, error) {
	lock, err := s.lock(ctx, s.buildsLock(), "building on this host", 0)
	var busy *BusyError
	if !errors.As(err, &busy) {
		return lock, err
	}
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		held, holder, err := look(s.lockPath(id, "build"))
		if err != nil {
			return nil, fmt.Errorf("cannot look for %s: %w", buildOf(id), err)
		}
		if held {
			return nil, &BusyError{What: buildOf(id), Holder: holder}
		}
	}
	// It is for a tenant that is gone, for a moment.
	lock, err = s.lock(ctx, s.buildsLock(), "building on this host", wait)
	if errors.As(err, &busy) {
		busy.Holder = Holder{} // who shares it is not written there: that was somebody before
	}
	return lock, err
}

func (s *Store) buildsLock() string { return filepath.Join(s.locksDir(), "builds.lock") }

// LockSupervisor takes the lock that a tenant's supervisor holds as long as it
// lives. The one who starts a supervisor takes it and passes it on.
func (s *Store) LockSupervisor(ctx context.Context, id string, wait time.Duration) (*Lock, error) {
	// Whoever only looks whether it is held has it for a moment.
	return s.lockTenant(ctx, id, "supervisor", "the supervisor of tenant "+id, max(wait, time.Second))
}

// lockTenant checks the id, which becomes part of a file's name, first.
func (s *Store) lockTenant(ctx context.Context, id, kind, what string, wait time.Duration) (*Lock, error) {
	if err := tenant.CheckID(id); err != nil {
		return nil, err
	}
	return s.lock(ctx, s.lockPath(id, kind), what, wait)
}

// LockHost locks what all tenants share. It is held for milliseconds.
func (s *Store) LockHost(ctx context.Context) (*Lock, error) {
	return s.lock(ctx, filepath.Join(s.locksDir(), "host.lock"), "the host", forever)
}

// LockVMMs is held while a release of Firecracker is installed.
func (s *Store) LockVMMs(ctx context.Context, wait time.Duration) (*Lock, error) {
	return s.lock(ctx, filepath.Join(s.locksDir(), "vmm.lock"), "the installation of Firecracker", wait)
}

// ShareNetwork is held while one tenant's links and rules change; several may
// hold it. LockNetwork keeps all of them out, for what looks at the whole.
func (s *Store) ShareNetwork(ctx context.Context) (*Lock, error) {
	return s.lockAs(ctx, filepath.Join(s.locksDir(), "network.lock"), "the network", unix.LOCK_SH, forever)
}

// LockNetwork is ShareNetwork's opposite.
func (s *Store) LockNetwork(ctx context.Context) (*Lock, error) {
	return s.lockAs(ctx, filepath.Join(s.locksDir(), "network.lock"), "the network", unix.LOCK_EX, forever)
}

// SupervisorAlive says whether a process holds the supervisor's lock.
func (s *Store) SupervisorAlive(id string) (bool, error) {
	alive, _, err := look(s.lockPath(id, "supervisor"))
	if err != nil {
		return false, fmt.Errorf("cannot look for the supervisor of %s: %w", id, err)
	}
	return alive, nil
}

// look says whether a process holds the lock alone, and which.
func look(path string) (held bool, by Holder, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, Holder{}, nil
	}
	if err != nil {
		return false, Holder{}, err
	}
	defer release(f)
	// A shared lock that is had for a moment disturbs nobody: who wants the
	// exclusive one waits for it.
	err = flock.Lock(f, unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, readHolder(f), nil
	}
	return false, Holder{}, err
}

// SupervisorLockFile is what the tenant's supervisor holds a lock on.
func (s *Store) SupervisorLockFile(id string) string { return s.lockPath(id, "supervisor") }

func (s *Store) lockPath(id, kind string) string {
	return filepath.Join(s.locksDir(), "tenant-"+id+"."+kind)
}

func (s *Store) lockWithin(path, what string, wait time.Duration) (*Lock, error) {
	return s.lock(context.Background(), path, what, wait)
}

func (s *Store) lock(ctx context.Context, path, what string, wait time.Duration) (*Lock, error) {
	return s.lockAs(ctx, path, what, unix.LOCK_EX, wait)
}

// lockAs takes an exclusive or a shared lock.
func (s *Store) lockAs(ctx context.Context, path, what string, how int, wait time.Duration) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", what, err)
	}
	err = flock.Lock(f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) && wait > 0 {
		return waitForLock(ctx, f, what, how, wait)
	}
	if err != nil {
		defer f.Close()
		return nil, lockError(f, what, err)
	}
	return held(f, how)
}

// waitForLock blocks in a goroutine, since flock cannot be given a deadline.
// When the caller gives up first, the goroutine releases what it gets.
func waitForLock(ctx context.Context, f *os.File, what string, how int, wait time.Duration) (*Lock, error) {
	got := make(chan error)
	gaveUp := make(chan struct{})
	go func() {
		err := flock.Lock(f, how)
		select {
		case got <- err:
		case <-gaveUp:
			release(f)
		}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case err := <-got:
		if err != nil {
			defer f.Close()
			return nil, lockError(f, what, err)
		}
		return held(f, how)
	case <-ctx.Done():
		close(gaveUp)
		return nil, fmt.Errorf("gave up waiting for %s: %w", what, ctx.Err())
	case <-timer.C:
		err := &BusyError{What: what, Holder: readHolder(f)}
		close(gaveUp)
		return nil, err
	}
}

// held makes a lock of a file that is locked. One that is held alone names its
// holder.
func held(f *os.File, how int) (*Lock, error) {
	if how == unix.LOCK_SH {
		return &Lock{f: f}, nil
	}
	data, err := json.Marshal(Holder{PID: os.Getpid(), What: command(), Since: time.Now()})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	// The holder's name is a courtesy to others. A full disk must not stop a
	// command that may be the one that frees it.
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		release(f)
		return nil, fmt.Errorf("cannot mark %s as held: %w", f.Name(), err)
	}
	return &Lock{f: f}, nil
}

func lockError(f *os.File, what string, err error) error {
	if errors.Is(err, unix.EWOULDBLOCK) {
		return &BusyError{What: what, Holder: readHolder(f)}
	}
	return fmt.Errorf("cannot lock %s: %w", what, err)
}

func readHolder(f *os.File) Holder {
	var h Holder
	buf := make([]byte, 4096)
	n, _ := f.ReadAt(buf, 0) // io.EOF is the rule; an unreadable holder is an unnamed one
	if json.Unmarshal(buf[:n], &h) != nil {
		return Holder{}
	}
	return h
}

// command is what this process is doing, in the words of its command line up
// to the first flag: flags may hold what is nobody's business.
func command() string {
	words := []string{filepath.Base(os.Args[0])}
	for _, a := range os.Args[1:] {
		if strings.HasPrefix(a, "-") {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words[:min(len(words), 4)], " ")
}
