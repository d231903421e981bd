// Package store owns the state directory: every path in it, the locks, atomic
// writes and the layout's version.
//
// It reads and writes whole files and knows nothing of what a tenant does:
// no processes, no networks, no guests.
package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/tenant"
)

// DefaultRoot is where state lives unless --root or MVM_ROOT say otherwise.
const DefaultRoot = "/var/lib/mvm"

const (
	volatileDir   = "/run/mvm"
	layoutVersion = "1"
)

// ErrNotFound means that there is no such tenant.
var ErrNotFound error = fault.ErrNotFound

// Store is an opened state directory.
type Store struct {
	Root   string
	RunDir string // what does not survive a reboot; made when a tenant runs
	// Scope is empty for the default root and otherwise a hash of the root.
	// It is part of every name outside of Root, so that two roots on one host
	// never touch each other.
	Scope string
}

// Open makes the directories of root where they are missing and checks that
// this program understands what is there.
func Open(root string) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("cannot open state directory %s: %w", root, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		failed := &fault.Error{Msg: "cannot make the state directory", Err: err, Hint: "name another folder with --root or MVM_ROOT"}
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG) {
			failed.Kind = fault.ErrInput
		}
		return nil, failed
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, fmt.Errorf("cannot open state directory %s: %w", root, err)
	}
	s := &Store{Root: abs, Scope: scope(abs)}
	s.RunDir = filepath.Join(volatileDir, rootHash(abs))
	if err := s.checkVersion(); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.locksDir(), s.auditDir(), s.tenantsDir(), s.SnapshotsDir(), s.ImagesDir(), s.RetainedDir(), filepath.Dir(s.LeasesFile()), s.BuildsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make state directory: %w", err)
		}
	}
	return s, nil
}

func rootHash(root string) string {
	sum := sha256.Sum256([]byte(root))
	return hex.EncodeToString(sum[:4])
}

func scope(root string) string {
	if root == DefaultRoot {
		return ""
	}
	return rootHash(root)
}

// Scoped turns a name that lives outside of the root, such as a cgroup's or a
// table's, into this root's own.
func (s *Store) Scoped(name, sep string) string {
	if s.Scope == "" {
		return name
	}
	return name + sep + s.Scope
}

func (s *Store) checkVersion() error {
	data, err := os.ReadFile(s.versionFile())
	if errors.Is(err, fs.ErrNotExist) {
		return atomicfile.Write(s.versionFile(), []byte(layoutVersion+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot read the state directory's version: %w", err)
	}
	if v := strings.TrimSpace(string(data)); v != layoutVersion {
		return &layoutError{fmt.Sprintf("cannot use state directory %s: its layout has version %q, this mvm knows %s", s.Root, v, layoutVersion), s.versionFile()}
	}
	return nil
}

// layoutError refuses what another mvm made, or what was damaged.
type layoutError struct{ msg, file string }

func (e *layoutError) Error() string { return e.msg }

// Advice is the hint that goes with the error.
func (e *layoutError) Advice() string {
	return fmt.Sprintf("use the mvm that made it, or another --root; where only %s was damaged, restore its line: %s", e.file, layoutVersion)
}

// DamagedError is a state file that cannot be understood. Where it is a
// tenant's, other tenants are not concerned.
type DamagedError struct {
	Path   string
	Err    error
	Remedy string // what to do; empty: what there is to do about any file of a tenant's
}

// Advice is the hint that goes with the error.
func (e *DamagedError) Advice() string {
	return cmp.Or(e.Remedy, "restore the file from a backup, or destroy the tenant: its data volume is kept")
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

// IDs lists the tenants, sorted. A tenant exists when its spec does: folders
// of a create or a destroy that was cut short are not listed.
func (s *Store) IDs() ([]string, error) {
	ids, _, err := s.split()
	return ids, err
}

// Leftovers lists the folders below tenants/ that belong to no tenant: what a
// create or a destroy that was cut short left there.
func (s *Store) Leftovers() ([]string, error) {
	_, left, err := s.split()
	return left, err
}

func (s *Store) split() (ids, left []string, err error) {
	names, err := s.Folders()
	for _, name := range names {
		if tenant.CheckID(name) == nil && s.Exists(name) {
			ids = append(ids, name)
		} else {
			left = append(left, name)
		}
	}
	return ids, left, err
}

// Folders lists what is below tenants/, sorted. Nearly all of it is tenants: of
// the rest LoadSpec says that it is none. Who reads the specs anyway need not
// look for each first, as IDs does.
func (s *Store) Folders() ([]string, error) {
	entries, err := os.ReadDir(s.tenantsDir())
	if err != nil {
		return nil, fmt.Errorf("cannot list tenants: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Begun says whether there is such a tenant, or at least a part of it.
func (s *Store) Begun(id string) bool {
	_, err := os.Lstat(s.Tenant(id).Dir)
	return err == nil
}

// Exists says whether there is such a tenant.
func (s *Store) Exists(id string) bool {
	_, err := os.Lstat(s.Tenant(id).SpecFile())
	return err == nil
}

// Known says whether a tenant of this id exists or ever existed.
func (s *Store) Known(id string) bool {
	_, err := os.Lstat(s.AuditFile(id))
	return err == nil || s.Exists(id)
}

// Recorded lists the tenants that have an audit record, also those that are
// gone.
func (s *Store) Recorded() ([]string, error) {
	entries, err := os.ReadDir(s.auditDir())
	if err != nil {
		return nil, fmt.Errorf("cannot list the audit records: %w", err)
	}
	var ids []string
	for _, e := range entries {
		name, isRecord := strings.CutSuffix(e.Name(), ".jsonl")
		if id, isTenants := strings.CutPrefix(name, "tenant-"); isRecord && isTenants {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// LoadSpec reads what was asked for.
func (s *Store) LoadSpec(id string) (tenant.Spec, error) {
	var spec tenant.Spec
	if err := s.load(id, s.Tenant(id).SpecFile(), &spec); err != nil {
		return spec, err
	}
	if spec.TenantID != id {
		return spec, &DamagedError{Path: s.Tenant(id).SpecFile(), Err: fmt.Errorf("it belongs to tenant %q", spec.TenantID)}
	}
	spec.Defaults()
	if err := spec.Validate(); err != nil {
		return spec, &DamagedError{Path: s.Tenant(id).SpecFile(), Err: err}
	}
	return spec, nil
}

// SaveSpec writes what was asked for. Writing it is what makes a tenant exist.
func (s *Store) SaveSpec(spec tenant.Spec) error {
	return WriteJSON(s.Tenant(spec.TenantID).SpecFile(), spec)
}

// LoadState reads what is known of the tenant.
func (s *Store) LoadState(id string) (tenant.State, error) {
	var state tenant.State
	err := s.load(id, s.Tenant(id).StateFile(), &state)
	return state, err
}

func (s *Store) load(id, path string, into json.Unmarshaler) error {
	if err := tenant.CheckID(id); err != nil {
		return err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	data, err := readInto(buf, path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.Exists(id):
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	case errors.Is(err, fs.ErrNotExist):
		return &DamagedError{Path: path, Err: errors.New("it is missing")}
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP):
		return &DamagedError{Path: path, Err: fmt.Errorf("it is no file: %w", err)}
	case err != nil:
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	if err := into.UnmarshalJSON(data); err != nil {
		return &DamagedError{Path: path, Err: err}
	}
	return nil
}

// buffers are what files are read into: decoding copies what it keeps.
var buffers = sync.Pool{New: func() any { return new(make([]byte, 4096)) }}

// readInto is os.ReadFile with three system calls in place of seven: a list of
// all tenants does little else. What it reads is replaced, never changed. The
// content is in *buf until that is used again. A pipe in its place is empty.
func readInto(buf *[]byte, path string) ([]byte, error) {
	fd, err := ignoringEINTR(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	size := 0
	for {
		room := (*buf)[size:]
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, room) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		size += n
		if n < len(room) {
			return (*buf)[:size], nil
		}
		*buf = append(*buf, make([]byte, len(*buf))...)
	}
}

func ignoringEINTR(do func() (int, error)) (int, error) {
	for {
		n, err := do()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// UpdateState changes the state under the tenant's state lock, which is held
// for this moment only: commands and the supervisor both write the state.
func (s *Store) UpdateState(id string, change func(*tenant.State) error) error {
	lock, err := s.lockWithin(s.lockPath(id, "state"), "update state", forever)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	state, err := s.LoadState(id)
	if err != nil {
		return err
	}
	if err := change(&state); err != nil {
		return err
	}
	return WriteJSON(s.Tenant(id).StateFile(), state)
}

// CreateState writes the first state of a tenant that is being created.
func (s *Store) CreateState(id string, state tenant.State) error {
	return WriteJSON(s.Tenant(id).StateFile(), state)
}

// Activate makes the tenant's volatile folder, by which ActiveIDs finds it.
func (s *Store) Activate(id string) error {
	t := s.Tenant(id)
	if err := os.MkdirAll(t.RunDir(), 0o700); err != nil {
		return fmt.Errorf("cannot make the folder of the tenant's sockets: %w", err)
	}
	return atomicfile.Write(t.idFile(), []byte(id), 0o600)
}

// Activated names the tenant whose volatile folder bears this short hash; it is
// empty where there is none.
func (s *Store) Activated(hash string) (id string) {
	data, err := os.ReadFile(filepath.Join(s.RunDir, hash, idFileName))
	if id = string(data); err != nil || tenant.CheckID(id) != nil {
		return ""
	}
	return id
}

// Activations are the names of the volatile folders, whosever they are.
func (s *Store) Activations() ([]string, error) {
	entries, err := os.ReadDir(s.RunDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is there from the first run on
		return nil, fmt.Errorf("cannot list running tenants: %w", err)
	}
	var hashes []string
	for _, e := range entries {
		hashes = append(hashes, e.Name())
	}
	return hashes, nil
}

// ActiveIDs lists the tenants that run, are being started, or left something
// behind since the last boot, without looking at the others.
func (s *Store) ActiveIDs() ([]string, error) {
	hashes, err := s.Activations()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, hash := range hashes {
		id, err := os.ReadFile(filepath.Join(s.RunDir, hash, idFileName))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being removed
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list running tenants: %w", err)
		}
		if s.Exists(string(id)) {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Remove takes the tenant's folder away: first out of sight in one step, then
// file by file, so that a tenant never half exists.
func (s *Store) Remove(id string) error {
	dir := s.Tenant(id).Dir
	gone := s.GoneDir(id)
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("cannot remove tenant %s: %w", id, err)
	}
	err := os.Rename(dir, gone)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = atomicfile.SyncDir(s.tenantsDir())
	}
	crash.Point("store/gone")
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("cannot remove tenant %s: %w", id, err)
	}
	return nil
}
