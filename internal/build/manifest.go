package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// ManifestVersion is the version of Manifest's JSON form.
const ManifestVersion = 1

// Manifest proves what an image was made of. It belongs to one tenant; several
// manifests may name the same image.
type Manifest struct {
	Version int    `json:"version"`
	Tenant  string `json:"tenant"`
	Profile string `json:"profile"`
	System  string `json:"system"`
	// Name is the <name> of the outputs that were found, as in
	// tenant-rootfs-<name>; empty for the unsuffixed ones.
	Name string `json:"name"`

	Source  Source   `json:"source"`
	Outputs []Output `json:"outputs"`
	Builder Builder  `json:"builder"`

	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`
	// Checked says that the outputs were built twice with the same bytes.
	Checked bool `json:"checked"`

	// InputsHash is over everything that decides the outcome; equal inputs
	// need no second build.
	InputsHash string `json:"inputs_hash"`

	Image     string     `json:"image"` // sha256 over the artifacts' hashes: the folder in images/
	Artifacts []Artifact `json:"artifacts"`
}

// Source is where the guest was defined.
type Source struct {
	Ref      string `json:"ref"`                // as it was asked for
	URL      string `json:"url"`                // resolved: what Nix would fetch to get the same source
	Revision string `json:"revision,omitempty"` // git commit, if there is one
	Dirty    bool   `json:"dirty"`              // differs from that commit
	NARHash  string `json:"nar_hash"`           // of the whole source tree, as Nix writes it (SRI)
	Snapshot string `json:"snapshot,omitempty"` // the folder in src/, for a local source
	// LockHash is the sha256 of the lock that was used, in the form in which
	// Nix writes flake.lock; Locked says that the source itself held it.
	LockHash string `json:"lock_hash"`
	Locked   bool   `json:"locked"`
	// Lock is that lock, byte for byte but for the newline at the end.
	Lock json.RawMessage `json:"lock"`
}

// Output is one output of the flake.
type Output struct {
	Attr       string `json:"attr"` // tenant-rootfs-acme
	Derivation string `json:"derivation"`
	StorePath  string `json:"store_path"`
	NARHash    string `json:"nar_hash"`
	NARSize    int64  `json:"nar_size"`
	// ClosureSize is that of the store path and all that it refers to.
	ClosureSize int64 `json:"closure_size"`
}

// Builder is what built it.
type Builder struct {
	Engine        string `json:"engine"` // docker, nerdctl or podman
	EngineVersion string `json:"engine_version"`
	Image         string `json:"image"`        // as configured
	ImageID       string `json:"image_id"`     // the engine's content id
	ImageDigest   string `json:"image_digest"` // the registry's digest, where there is one
	NixVersion    string `json:"nix_version"`
	Sandbox       bool   `json:"sandbox"`
	Offline       bool   `json:"offline"`
	FreshStore    bool   `json:"fresh_store"` // it began with an empty store
	// The keys whose signed store paths it could use.
	TrustedKeys []string `json:"trusted_keys,omitempty"`

	MemMiB         int     `json:"mem_mib"` // the container's limits
	CPUs           float64 `json:"cpus"`
	Pids           int     `json:"pids"`
	TimeoutSeconds float64 `json:"timeout_seconds"`
}

// Artifact names.
const (
	Kernel     = "kernel"
	Rootfs     = "rootfs.ext4"
	Initrd     = "initrd"
	BaseConfig = "fc-base.json"
)

// Artifact is one published file.
type Artifact struct {
	Name   string `json:"name"` // Kernel, Rootfs, Initrd or BaseConfig
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Artifact returns the artifact called name, if the manifest has it.
func (m Manifest) Artifact(name string) (Artifact, bool) {
	for _, a := range m.Artifacts {
		if a.Name == name {
			return a, true
		}
	}
	return Artifact{}, false
}

// StorePaths lists the store paths of all outputs.
func (m Manifest) StorePaths() []string {
	paths := make([]string, len(m.Outputs))
	for i, o := range m.Outputs {
		paths[i] = o.StorePath
	}
	return paths
}

// LockFile is the lock as a file flake.lock, whose sha256 is LockHash.
func (s Source) LockFile() []byte { return append(bytes.Clone(s.Lock), '\n') }

// Encode returns m as it is written to manifest.json.
func (m Manifest) Encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("cannot write manifest: %w", err)
	}
	return buf.Bytes(), nil
}

// DecodeManifest reads what Encode wrote.
func DecodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, fmt.Errorf("cannot read manifest: %w", err)
	}
	if m.Version < 1 || m.Version > ManifestVersion {
		return Manifest{}, fmt.Errorf("cannot read manifest: version %d, this mvm knows 1 to %d", m.Version, ManifestVersion)
	}
	if len(m.Source.Lock) > 0 {
		// Written inside the manifest it was indented deeper.
		lock, err := canonicalLock(m.Source.Lock)
		if err != nil {
			return Manifest{}, fmt.Errorf("cannot read manifest: %w", err)
		}
		m.Source.Lock = bytes.TrimSpace(lock)
	}
	return m, nil
}
