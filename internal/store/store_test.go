package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/tenant"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.RunDir) })
	return s
}

func create(t *testing.T, s *Store, id string) {
	t.Helper()
	spec := tenant.Spec{TenantID: id}
	spec.Defaults()
	if err := os.MkdirAll(s.Tenant(id).Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateState(id, tenant.State{SchemaVersion: tenant.SchemaVersion, Spec: spec, Phase: tenant.Created}); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveSpec(spec); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherLayoutIsRefused(t *testing.T) {
	s := open(t)
	if err := os.WriteFile(s.versionFile(), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.Root); err == nil || !strings.Contains(err.Error(), `"99"`) {
		t.Fatalf("err = %v", err)
	}
}

func TestSocketPathsFit(t *testing.T) {
	s := open(t)
	path := s.Tenant(strings.Repeat("a", 63)).ControlSocket()
	if len(path) > 107 {
		t.Errorf("%s has %d bytes", path, len(path))
	}
}

// TestVolatileFoldersBeginWithARun: who only looks leaves nothing in /run.
func TestVolatileFoldersBeginWithARun(t *testing.T) {
	s := open(t)
	create(t, s, "acme")
	if ids, err := s.ActiveIDs(); err != nil || len(ids) > 0 {
		t.Errorf("before any run: %v, %v", ids, err)
	}
	if _, err := os.Lstat(s.RunDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was made for nobody: %v", s.RunDir, err)
	}
	if err := s.Activate("acme"); err != nil {
		t.Fatal(err)
	}
	if ids, err := s.ActiveIDs(); err != nil || !slices.Equal(ids, []string{"acme"}) {
		t.Errorf("while it runs: %v, %v", ids, err)
	}
}

func TestADamagedTenantDoesNotHideTheOthers(t *testing.T) {
	s := open(t)
	create(t, s, "good")
	create(t, s, "bad")
	if err := os.WriteFile(s.Tenant("bad").StateFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := s.IDs()
	if err != nil || strings.Join(ids, " ") != "bad good" {
		t.Fatalf("ids = %v, err = %v", ids, err)
	}
	if _, err := s.LoadState("good"); err != nil {
		t.Error(err)
	}
	var damaged *DamagedError
	if _, err := s.LoadState("bad"); !errors.As(err, &damaged) || damaged.Path != s.Tenant("bad").StateFile() {
		t.Errorf("err = %v, want a DamagedError that names the file", err)
	}
	if _, err := s.LoadState("absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
}

// TestWhatIsNoFile is damaged, and keeps nobody waiting.
func TestWhatIsNoFile(t *testing.T) {
	s := open(t)
	create(t, s, "acme")
	for name, put := range map[string]func(path string) error{
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"a loop":   func(path string) error { return os.Symlink(path, path) },
		"a pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		path := s.Tenant("acme").StateFile()
		if err := errors.Join(os.Remove(path), put(path)); err != nil {
			t.Fatal(err)
		}
		var damaged *DamagedError
		if _, err := s.LoadState("acme"); !errors.As(err, &damaged) {
			t.Errorf("%s: err = %v, want a DamagedError", name, err)
		}
	}
}

func TestConcurrentUpdatesAreAllKept(t *testing.T) {
	s := open(t)
	create(t, s, "acme")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := s.UpdateState("acme", func(st *tenant.State) error { st.Restarts++; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	st, err := s.LoadState("acme")
	if err != nil || st.Restarts != 20 {
		t.Errorf("restarts = %d, err = %v", st.Restarts, err)
	}
}

func TestBusyNamesTheHolder(t *testing.T) {
	s := open(t)
	lock, err := s.LockTenant(t.Context(), "acme", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{0, time.Millisecond} {
		_, err = s.LockTenant(t.Context(), "acme", wait)
		var busy *BusyError
		if !errors.As(err, &busy) || busy.Holder.PID != os.Getpid() {
			t.Fatalf("err = %v, want a BusyError that names this process", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.LockTenant(ctx, "acme", time.Hour); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	got := make(chan error, 1)
	go func() {
		l, err := s.LockTenant(t.Context(), "acme", time.Minute)
		if err == nil {
			l.Unlock()
		}
		got <- err
	}()
	lock.Unlock()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// TestBusyUnderAClockThatWasSetBack: nobody has worked for less than no time.
func TestBusyUnderAClockThatWasSetBack(t *testing.T) {
	e := &BusyError{What: "tenant acme", Holder: Holder{PID: 7, What: "mvm tenant build", Since: time.Now().Add(time.Hour)}}
	if got := e.Error(); !strings.HasSuffix(got, "for 0s") {
		t.Error(got)
	}
}

func TestSupervisorAlive(t *testing.T) {
	s := open(t)
	alive := func() bool {
		t.Helper()
		ok, err := s.SupervisorAlive("acme")
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if alive() {
		t.Error("alive before its first start")
	}
	lock, err := s.LockSupervisor(t.Context(), "acme", 0)
	if err != nil {
		t.Fatal(err)
	}
	if !alive() {
		t.Error("not alive while the lock is held")
	}
	lock.Unlock()
	if alive() {
		t.Error("alive after its end")
	}
}

// TestUnlockIsAtOnce: a process that is being started has copies of all
// descriptors until it executes its program. They keep no lock, but for one that
// was passed on.
func TestUnlockIsAtOnce(t *testing.T) {
	s := open(t)
	for _, passedOn := range []bool{false, true} {
		lock, err := s.LockSupervisor(t.Context(), "acme", 0)
		if err != nil {
			t.Fatal(err)
		}
		if passedOn {
			lock.PassOn()
		}
		child, err := unix.Dup(int(lock.f.Fd())) // to the kernel, what a fork makes
		if err != nil {
			t.Fatal(err)
		}
		lock.Unlock()
		if alive, err := s.SupervisorAlive("acme"); err != nil || alive != passedOn {
			t.Errorf("passed on %v: held %v, %v", passedOn, alive, err)
		}
		if err := unix.Close(child); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // who only looks leaves nothing behind either
		if alive, err := s.SupervisorAlive("acme"); err != nil || alive {
			t.Errorf("held %v, %v", alive, err)
		}
	}
}

// TestEveryLockIsDocumented on the page that mirrors the directory.
func TestEveryLockIsDocumented(t *testing.T) {
	s := open(t)
	create(t, s, "acme")
	ctx := t.Context()
	if err := s.UpdateState("acme", func(*tenant.State) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, take := range []func() (*Lock, error){
		func() (*Lock, error) { return s.LockStart(ctx, "acme", 0) },
		func() (*Lock, error) { return s.LockBuild(ctx, "acme", 0) },
		func() (*Lock, error) { return s.LockTenant(ctx, "acme", 0) },
		func() (*Lock, error) { return s.LockSupervisor(ctx, "acme", 0) },
		func() (*Lock, error) { return s.LockBoot(ctx, 1) },
		func() (*Lock, error) { return s.ShareNetwork(ctx) },
		func() (*Lock, error) { return s.LockHost(ctx) },
		func() (*Lock, error) { return s.LockVMMs(ctx, 0) },
	} {
		lock, err := take()
		if err != nil {
			t.Fatal(err)
		}
		lock.Unlock()
	}
	page, err := os.ReadFile("../../docs/state-directory.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(s.locksDir())
	if err != nil || len(files) < 10 {
		t.Fatalf("%d lock files, %v", len(files), err)
	}
	for _, f := range files {
		name := strings.NewReplacer("acme", "<id>", "boot.0", "boot.<n>").Replace(f.Name())
		if !strings.Contains(string(page), name) {
			t.Errorf("docs/state-directory.md does not name %s", name)
		}
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	s := open(t)
	create(t, s, "acme")
	for range 2 {
		if err := s.Remove("acme"); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := s.Leftovers(); err != nil || len(left) != 0 || s.Exists("acme") {
		t.Errorf("left = %v, err = %v", left, err)
	}
}

// TestReadingKeepsWhatWasRead: what one file said stays when others are read
// after it, also when it is longer than most.
func TestReadingKeepsWhatWasRead(t *testing.T) {
	s := open(t)
	long := strings.Repeat("x", 3*4096)
	for _, id := range []string{"a", "b"} {
		create(t, s, id)
		doc := fmt.Sprintf(`{"schema_version":99,"spec":{"schema_version":99,"tenant_id":%q},"reason":%q,"newer":%q}`, id, id+long, id+long)
		if err := os.WriteFile(s.Tenant(id).StateFile(), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var written []string
	var states []tenant.State
	for _, id := range []string{"a", "b", "a", "b"} {
		state, err := s.LoadState(id)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, state)
		data, err := state.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, string(data))
	}
	for i, state := range states {
		data, err := state.MarshalJSON()
		if err != nil || string(data) != written[i] || !strings.Contains(string(data), `"newer":"`+state.Spec.TenantID+long) || state.Reason != state.Spec.TenantID+long {
			t.Errorf("state %d is no longer what was read: %v", i, err)
		}
	}
}

// TestBuildsLock: tenants build side by side; who wants all builds to stand
// still is told of one that does not, and then keeps all of them waiting.
func TestBuildsLock(t *testing.T) {
	s := open(t)
	create(t, s, "acme")
	create(t, s, "beta")
	var builds []*Lock
	for _, id := range []string{"acme", "beta"} {
		lock, err := s.LockBuild(t.Context(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		builds = append(builds, lock)
	}
	var busy *BusyError
	if _, err := s.LockBuild(t.Context(), "acme", 0); !errors.As(err, &busy) || busy.Holder.PID != os.Getpid() {
		t.Errorf("a second build of one tenant: %v", err)
	}
	builds[0].Unlock()
	if _, err := s.LockBuilds(t.Context(), time.Hour); !errors.As(err, &busy) || busy.What != "the build of tenant beta" || busy.Holder.PID != os.Getpid() {
		t.Errorf("err = %v, want that it names the build of beta", err)
	}
	builds[1].Unlock()
	all, err := s.LockBuilds(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"acme", "gone"} {
		if _, err := s.LockBuild(t.Context(), id, 0); !errors.As(err, &busy) || busy.Holder.PID != os.Getpid() {
			t.Errorf("a build of %s: %v", id, err)
		}
	}
	got := make(chan error, 1)
	go func() {
		lock, err := s.LockBuild(t.Context(), "acme", time.Minute)
		if err == nil {
			lock.Unlock()
		}
		got <- err
	}()
	all.Unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestBuildsLockWaitsForWhatIsNoTenants: what is building for a tenant that is
// gone, such as its destroy, ends in a moment.
func TestBuildsLockWaitsForWhatIsNoTenants(t *testing.T) {
	s := open(t)
	before, err := s.LockBuilds(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	before.Unlock()
	lock, err := s.LockBuild(t.Context(), "gone", 0)
	if err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	if _, err := s.LockBuilds(t.Context(), time.Millisecond); !errors.As(err, &busy) || busy.Holder.PID != 0 {
		t.Errorf("err = %v, want a BusyError that names nobody", err)
	}
	got := make(chan error, 1)
	go func() {
		all, err := s.LockBuilds(t.Context(), time.Minute)
		if err == nil {
			all.Unlock()
		}
		got <- err
	}()
	lock.Unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestSweepHostTemp: a writer of each kind of file that tenants share was killed.
func TestSweepHostTemp(t *testing.T) {
	s := open(t)
	var left []string
	for _, path := range []string{s.ConfigFile(), s.LeasesFile(), s.AuditFile("acme") + ".head"} {
		path = filepath.Join(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-0")
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		left = append(left, path)
	}
	if err := s.SweepHostTemp(); err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}
