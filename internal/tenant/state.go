package tenant

import "time"

// Phase is where a tenant stands in its life. The supervisor package owns the
// transitions between them.
type Phase string

const (
	Created    Phase = "created"
	Starting   Phase = "starting"
	Running    Phase = "running"
	Paused     Phase = "paused" // the VMM is there, its vCPUs stand still
	Stopping   Phase = "stopping"
	Stopped    Phase = "stopped"
	Failed     Phase = "failed"
	Restarting Phase = "restarting"
)

// Phases are all of them.
var Phases = []Phase{Created, Starting, Running, Paused, Stopping, Stopped, Failed, Restarting}

// State is what mvm knows of a tenant. It is written to state.json. Running,
// Phase and the pids are what was last seen: whoever shows them to a person
// observes first.
type State struct {
	SchemaVersion int       `json:"schema_version"`
	Instance      string    `json:"instance_id,omitempty"` // random: tells this life of the tenant from earlier ones of the same id
	Spec          Spec      `json:"spec"`
	Net           Net       `json:"net"`
	UID           int       `json:"uid"` // the VMM's uid and gid
	CreatedAt     time.Time `json:"created_at"`

	Artifacts     Artifacts `json:"artifacts"`
	FlakeLockHash string    `json:"flake_lock_hash,omitzero"`
	NixStorePaths []string  `json:"nix_store_paths,omitempty"`
	BuiltAt       time.Time `json:"built_at,omitzero"`

	Running          bool      `json:"running"`
	Phase            Phase     `json:"phase"`
	Reason           string    `json:"reason,omitzero"` // why it is in this phase, for people
	Since            time.Time `json:"since,omitzero"`  // of the phase
	Wanted           bool      `json:"wanted"`          // run was asked for and stop was not
	Tier             string    `json:"tier,omitzero"`
	VMM              string    `json:"vmm,omitzero"` // name and version
	FirecrackerPID   int       `json:"firecracker_pid,omitzero"`
	FirecrackerStart uint64    `json:"firecracker_start,omitzero"` // start time in clock ticks since boot: a pid alone may be somebody else's
	SupervisorPID    int       `json:"supervisor_pid,omitzero"`
	SupervisorStart  uint64    `json:"supervisor_start,omitzero"`
	BootID           string    `json:"boot_id,omitzero"` // of the host, when it was started
	LastStartedAt    time.Time `json:"last_started_at,omitzero"`
	Restarts         int       `json:"restarts,omitzero"` // since the last run
	GaveUp           bool      `json:"gave_up,omitzero"`  // it ran, and ended as often as its restart policy allows

	extra extraFields
}

// Uptime is how long ago the VMM was started, seen from now. It is never
// negative: the wall clock may have been set back meanwhile.
func (s *State) Uptime(now time.Time) time.Duration {
	return max(now.Sub(s.LastStartedAt), 0)
}

// ForgetProcesses makes the state say that nothing of the tenant runs.
func (s *State) ForgetProcesses() {
	s.Running, s.FirecrackerPID, s.FirecrackerStart, s.SupervisorPID, s.SupervisorStart = false, 0, 0, 0, 0
}

// Net is the tenant's place in the network, fixed from create to destroy.
type Net struct {
	IP      string `json:"ip"`
	Gateway string `json:"gateway"`
	CIDR    string `json:"cidr"` // the subnet
	MAC     string `json:"mac"`
	TAP     string `json:"tap"`
	Bridge  string `json:"bridge"`
}

// Artifacts are the paths of what was built, and its identity.
type Artifacts struct {
	Image          string `json:"image,omitzero"` // sha256 over the artifacts' hashes
	KernelPath     string `json:"kernel_path,omitzero"`
	RootfsPath     string `json:"rootfs_path,omitzero"`
	InitrdPath     string `json:"initrd_path,omitzero"`
	FCBaseConfig   string `json:"fc_base_config_path,omitzero"`
	ManifestPath   string `json:"manifest_path,omitzero"`
	ManifestSHA256 string `json:"manifest_sha256,omitzero"`
	// NextManifestSHA256 is that of a build that is becoming the tenant's:
	// where it was killed meanwhile, the manifest may be either.
	NextManifestSHA256 string `json:"next_manifest_sha256,omitzero"`
}

// Built says whether there is something to boot.
func (a Artifacts) Built() bool { return a.Image != "" }

// Recorded says whether the manifest with this hash is one that a build wrote.
func (a Artifacts) Recorded(manifestSHA256 string) bool {
	return manifestSHA256 != "" && (manifestSHA256 == a.ManifestSHA256 || manifestSHA256 == a.NextManifestSHA256)
}
