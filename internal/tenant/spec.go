// Package tenant is the plain data of a tenant: what was asked for (Spec),
// what is known about it (State) and every name that follows from its id.
//
// It parses, defaults and validates. It knows nothing of the host: no paths,
// no processes, no devices.
package tenant

import (
	"fmt"
	"strings"

	"github.com/auser/mvm/internal/fault"
)

// Limits and defaults of a spec.
const (
	DefaultFlake   = "."
	DefaultProfile = "baseline"
	DefaultVCPUs   = 1
	DefaultMemMiB  = 512
	DefaultDataMiB = 2048

	MaxVCPUs   = 32      // Firecracker's limit
	MinMemMiB  = 64      // below, no Linux guest of ours reaches its init
	MaxMemMiB  = 1 << 20 // 1 TiB
	MinDataMiB = 16
	MaxDataMiB = 16 << 20 // 16 TiB, the most that ext4 with 4 KiB blocks holds
)

// InputError is bad input from a person: a message and what to do about it.
type InputError struct {
	Msg  string
	Hint string
}

func (e *InputError) Error() string { return e.Msg }
func (e *InputError) Unwrap() error { return fault.ErrInput }

// Advice is the hint that goes with the error.
func (e *InputError) Advice() string { return e.Hint }

// Spec is what a person asked for. It is written to spec.json.
type Spec struct {
	SchemaVersion int    `json:"schema_version"`
	TenantID      string `json:"tenant_id"`
	FlakeRef      string `json:"flake_ref"` // a folder of this host, or what Nix takes
	Profile       string `json:"profile"`   // which guest of the flake
	VCPUs         int    `json:"vcpus"`     // 1 to 32
	MemMiB        int    `json:"mem_mib"`   // memory, in MiB
	DataMiB       int    `json:"data_mib"`  // size of the data volume, in MiB
	Egress        string `json:"egress"`    // open, none or allow:<cidr>[:<tcp or udp>/<port>],…
	Restart       string `json:"restart"`   // no, on-failure[:n], always or unless-stopped

	Volumes Volumes `json:"volumes,omitzero"` // beside the data

	Machine

	extra extraFields
}

// Defaults fills in what was not given.
func (s *Spec) Defaults() {
	setDefault(&s.SchemaVersion, SchemaVersion)
	setDefault(&s.FlakeRef, DefaultFlake)
	setDefault(&s.Profile, DefaultProfile)
	setDefault(&s.VCPUs, DefaultVCPUs)
	setDefault(&s.MemMiB, DefaultMemMiB)
	setDefault(&s.DataMiB, DefaultDataMiB)
	setDefault(&s.Egress, "open")
	setDefault(&s.Restart, "no")
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first thing that is wrong with s as an *InputError.
func (s *Spec) Validate() error {
	if err := CheckID(s.TenantID); err != nil {
		return err
	}
	if err := checkProfile(s.Profile); err != nil {
		return err
	}
	if s.FlakeRef == "" || strings.HasPrefix(s.FlakeRef, "-") || strings.ContainsAny(s.FlakeRef, "\x00\n\r") {
		return &InputError{Msg: fmt.Sprintf("%q is no flake reference", s.FlakeRef), Hint: "name a folder with a flake.nix, or a reference such as github:owner/repo"}
	}
	if err := checkRange("vCPUs", "--cpus", s.VCPUs, 1, MaxVCPUs); err != nil {
		return err
	}
	if err := checkRange("MiB of memory", "--mem", s.MemMiB, MinMemMiB, MaxMemMiB); err != nil {
		return err
	}
	if err := checkRange("MiB of data volume", "--data-size", s.DataMiB, MinDataMiB, MaxDataMiB); err != nil {
		return err
	}
	if _, err := ParseRestart(s.Restart); err != nil {
		return err
	}
	if err := s.Volumes.validate(); err != nil {
		return err
	}
	if err := s.Machine.validate(s.MemMiB); err != nil {
		return err
	}
	_, err := ParseEgress(s.Egress)
	return err
}

func checkRange(what, flag string, got, lo, hi int) error {
	if got >= lo && got <= hi {
		return nil
	}
	return &InputError{Msg: fmt.Sprintf("%d %s is out of range", got, what), Hint: fmt.Sprintf("%s takes %d to %d", flag, lo, hi)}
}

func checkProfile(p string) error {
	ok := p != "" && len(p) <= 64 && p[0] != '-'
	for _, r := range p {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	if !ok {
		return &InputError{Msg: fmt.Sprintf("%q is no profile name", p), Hint: "use letters, digits, '-' and '_', such as minimal"}
	}
	return nil
}
