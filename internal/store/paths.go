package store

import (
	"path/filepath"
	"strings"

	"github.com/auser/mvm/internal/tenant"
)

// Every path under the state directory and under the volatile one is named in
// this file and nowhere else; docs/state-directory.md mirrors it.

func (s *Store) ConfigFile() string  { return filepath.Join(s.Root, "config.toml") }
func (s *Store) versionFile() string { return filepath.Join(s.Root, "version") }
func (s *Store) LeasesFile() string  { return filepath.Join(s.Root, "network", "leases.json") }
func (s *Store) SnapshotsDir() string {
	return filepath.Join(s.Root, "src")
}
func (s *Store) ImagesDir() string   { return filepath.Join(s.Root, "images") }
func (s *Store) BuilderFile() string { return filepath.Join(s.Root, "builder.json") }
func (s *Store) RetainedDir() string { return filepath.Join(s.Root, "retained") }
func (s *Store) auditDir() string    { return filepath.Join(s.Root, "audit") }
func (s *Store) locksDir() string    { return filepath.Join(s.Root, "locks") }
func (s *Store) tenantsDir() string  { return filepath.Join(s.Root, "tenants") }

// DevRoot is the dev microVM's own state directory below the tenants' one.
func DevRoot(root string) string { return filepath.Join(root, "dev") }

// VMMDir holds the releases of Firecracker that setup installed.
func (s *Store) VMMDir() string { return filepath.Join(s.Root, "vmm") }

// BuilderDir holds the archive of a local builder image.
func (s *Store) BuilderDir() string { return filepath.Join(s.Root, "builder") }

// CacheKeyFile is the secret key that signs for the shared cache of builds.
func (s *Store) CacheKeyFile() string { return filepath.Join(s.Root, "cache.key") }

// AuditFile is the record of what was done to the tenant; with an empty id
// that of what was done to the host.
func (s *Store) AuditFile(id string) string {
	if id == "" {
		return filepath.Join(s.auditDir(), "host.jsonl")
	}
	return filepath.Join(s.auditDir(), "tenant-"+id+".jsonl")
}

// BuildsDir is what build containers write to: a folder for each tenant.
func (s *Store) BuildsDir() string         { return filepath.Join(s.Root, "build") }
func (s *Store) BuildDir(id string) string { return filepath.Join(s.BuildsDir(), id) }

// GoneDir is where a tenant's folder is moved to be removed.
func (s *Store) GoneDir(id string) string { return filepath.Join(s.tenantsDir(), ".gone-"+id) }

// Tenant names the files of one tenant.
func (s *Store) Tenant(id string) Tenant {
	return Tenant{ID: id, Dir: filepath.Join(s.tenantsDir(), id), runs: s.RunDir}
}

// Tenant is the names of one tenant's files.
type Tenant struct {
	ID   string
	Dir  string
	runs string // what all tenants' RunDirs are in
}

func (t Tenant) SpecFile() string     { return filepath.Join(t.Dir, "spec.json") }
func (t Tenant) StateFile() string    { return filepath.Join(t.Dir, "state.json") }
func (t Tenant) SecretsFile() string  { return filepath.Join(t.Dir, "secrets.json") }
func (t Tenant) ArtifactsDir() string { return filepath.Join(t.Dir, "artifacts") }
func (t Tenant) Manifest() string     { return filepath.Join(t.Dir, "artifacts", "manifest.json") }
func (t Tenant) LockFile() string     { return filepath.Join(t.Dir, "artifacts", "flake.lock") }
func (t Tenant) VolumesDir() string   { return filepath.Join(t.Dir, "volumes") }
func (t Tenant) DataVolume() string   { return filepath.Join(t.Dir, "volumes", "data.ext4") }
func (t Tenant) SnapshotsDir() string { return filepath.Join(t.Dir, "volumes", "snapshots") }

// Volume is the image of a volume beside the data: one with a size is kept, the
// copy of a folder of the host goes with its run.
func (t Tenant) Volume(v tenant.Volume) string {
	if v.Folder != "" {
		return filepath.Join(t.FoldersDir(), v.FileName())
	}
	return filepath.Join(t.VolumesDir(), v.FileName())
}

// GoingDir is what a volume beside the data is moved to on its way out of the
// tenant, and GoingVolume its image there.
func (t Tenant) GoingDir(v tenant.Volume) string {
	return filepath.Join(t.VolumesDir(), ".going-"+strings.TrimSuffix(v.FileName(), ".ext4"))
}
func (t Tenant) GoingVolume(v tenant.Volume) string {
	return filepath.Join(t.GoingDir(v), v.FileName())
}

// FoldersDir holds the copies of folders of the host.
func (t Tenant) FoldersDir() string  { return filepath.Join(t.Dir, "runtime", "folders") }
func (t Tenant) SSHDir() string      { return filepath.Join(t.Dir, "ssh") }
func (t Tenant) RuntimeDir() string  { return filepath.Join(t.Dir, "runtime") }
func (t Tenant) FinalConfig() string { return filepath.Join(t.Dir, "runtime", "fc.final.json") }
func (t Tenant) LogsDir() string     { return filepath.Join(t.Dir, "runtime", "logs") }
func (t Tenant) MetricsDir() string  { return filepath.Join(t.Dir, "runtime", "metrics") }
func (t Tenant) ConsoleLog() string  { return filepath.Join(t.LogsDir(), "console.log") }
func (t Tenant) VMMLog() string      { return filepath.Join(t.LogsDir(), "vmm.log") }
func (t Tenant) SupervisorLog() string {
	return filepath.Join(t.LogsDir(), "supervisor.log")
}
func (t Tenant) BuildLog() string { return filepath.Join(t.Dir, "build.log") }

// WrittenDirs are the folders in which files are replaced in one step, and so
// those where a killed writer may leave a temporary one.
func (t Tenant) WrittenDirs() []string {
	return []string{t.Dir, t.ArtifactsDir(), t.RuntimeDir(), t.SSHDir(), t.VolumesDir()}
}

// RunDir holds what must not survive a reboot and what must have a short
// path. It is not below Dir because a Unix socket's path has at most 107
// bytes, and a tenant's id alone may have 63.
func (t Tenant) RunDir() string        { return filepath.Join(t.runs, tenant.ShortHash(t.ID)) }
func (t Tenant) ControlSocket() string { return filepath.Join(t.RunDir(), "control.sock") }

// idFile says whose folder RunDir is.
func (t Tenant) idFile() string { return filepath.Join(t.RunDir(), idFileName) }

const idFileName = "tenant"

// JailDir is where the supervisor puts the VMM's root together, in its own
// mount namespace; on the host it stays an empty folder.
func (t Tenant) JailDir() string { return filepath.Join(t.RunDir(), "jail") }
