// Package build turns a flake reference into artifacts that a VMM can boot.
//
// It owns everything between the source's snapshot and the published image: the
// one ephemeral container in which Nix builds, the checks on what came out, the
// content-addressed folder images/ and the manifest that proves which inputs
// made it. It also owns the builder image.
//
// It knows nothing of tenants' state, of running VMs or of who asked: it takes
// plain values and returns plain values, prints nothing, and leaves linking an
// image to a tenant to its caller.
package build

import (
	"context"
	"time"
)

// Request says what to build and with which means. Tenant, Instance, FlakeRef,
// LogPath and the folders are required.
//
// Builds of one tenant share a store and a container name: the caller keeps
// them apart, with a lock that it holds for as long as Build runs.
type Request struct {
	Tenant   string // the tenant's id: the first name looked for in the flake
	Instance string // 16 hexadecimal digits that tell this life of the tenant from earlier ones of the same id
	FlakeRef string // a local folder (absolute, see source.Abs) or a remote ref in Nix's syntax
	Profile  string // "" is DefaultProfile
	System   string // Nix's name, such as x86_64-linux; "" is this host's

	Engine string // docker, nerdctl or podman; "" is the first that answers
	Image  string // builder image: a reference pinned by digest, or a local id; "" is DefaultImage

	SrcDir    string // immutable snapshots: SrcDir/<hash>
	BuildDir  string // what containers write: BuildDir/<tenant>
	ImagesDir string // published artifacts: ImagesDir/<sha256>
	CacheDir  string // optional fixed inputs, read-only at /cache
	// Substitutes is an optional folder of ready-made store paths, which
	// ExportStore has filled; only those that one of the keys has signed are
	// taken.
	Substitutes     string
	SubstitutesKeys []string
	Scope           string // tells roots on one host apart in labels and volume names; "" is the default root

	Limits Limits

	Offline     bool // no network, and nothing fetched
	NoSandbox   bool // give up Nix's own sandbox; recorded
	Force       bool // build even when nothing changed
	FreshStore  bool // throw the tenant's store away first, so that nothing an earlier build left can matter
	Check       bool // build twice and compare bit for bit
	RequireLock bool // refuse a flake whose lock file is missing or incomplete

	// PreviousManifest is the tenant's last one, or nil. With it, a build
	// whose inputs are the same does nothing.
	PreviousManifest *Manifest

	// TryLock is the lock of other tenants' builds: what a build left whose
	// lock is free is swept. nil sweeps only after this tenant's own.
	TryLock TryLock

	// LogPath takes the whole log of the build, replacing what is there.
	LogPath string

	// CheckBaseConfig judges the flake's base configuration; nil accepts any
	// JSON object. It is asked before anything is published.
	CheckBaseConfig func([]byte) error

	// Commit stores the manifest and links the image. It runs while the image
	// is locked against GC, also when the build is up to date. An error makes
	// Build fail with it. nil does nothing.
	Commit func(Manifest) error
}

// TryLock takes the lock that keeps a tenant's builds apart, without waiting.
// ok is false where somebody else has it.
type TryLock func(tenant string) (release func(), ok bool, err error)

// Limits bound the build container. Zero values take the defaults.
type Limits struct {
	MemMiB  int
	CPUs    float64
	Pids    int
	Timeout time.Duration
}

// DefaultProfile is the guest that is built where none is named.
const DefaultProfile = "baseline"

// DefaultLimits bound a build that asks for nothing else.
var DefaultLimits = Limits{MemMiB: 4096, CPUs: 2, Pids: 4096, Timeout: 2 * time.Hour}

// Result is how a build went, beside what it made.
type Result struct {
	UpToDate  bool // nothing had changed: no container ran, or Nix found everything built
	Published bool // the image is new, no earlier build had made the same one
	Warnings  []string
	Elapsed   time.Duration
}

// Build makes what req asks for and returns its manifest. The images folder
// holds either the whole image or nothing of it, whenever Build is interrupted.
func Build(ctx context.Context, req Request, progress Progress) (Manifest, Result, error) {
	b, err := newBuilder(req, progress)
	if err != nil {
		return Manifest{}, Result{}, err
	}
	return b.run(ctx)
}
