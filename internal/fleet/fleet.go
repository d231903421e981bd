// Package fleet is the file that declares many tenants: what mvm apply reads
// and mvm export writes.
//
// It parses strictly and validates. What is done about it is lifecycle's
// business.
package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auser/mvm/internal/tenant"
)

// Wish is what one tenant should be.
type Wish struct {
	Spec    tenant.Spec
	Running *bool // nil: as it is
}

// file is the YAML.
type file struct {
	Version int              `yaml:"version"`
	Tenants map[string]*item `yaml:"tenants"`
}

// item is one tenant; what is left out has its default.
type item struct {
	Flake   string `yaml:"flake,omitempty"`
	Profile string `yaml:"profile,omitempty"`
	VCPUs   int    `yaml:"vcpus,omitempty"`
	MemMiB  int    `yaml:"mem_mib,omitempty"`
	DataMiB int    `yaml:"data_mib,omitempty"`
	Egress  string `yaml:"egress,omitempty"`
	Restart string `yaml:"restart,omitempty"`
	Running *bool  `yaml:"running,omitempty"`

	Volumes []string `yaml:"volumes,omitempty"`

	Balloon         string `yaml:"balloon,omitempty"`
	HugePages       bool   `yaml:"huge_pages,omitempty"`
	CPUTemplate     string `yaml:"cpu_template,omitempty"`
	DiskMiBPerSec   int    `yaml:"disk_mib_per_sec,omitempty"`
	DiskOpsPerSec   int    `yaml:"disk_ops_per_sec,omitempty"`
	NetRxMbit       int    `yaml:"net_rx_mbit,omitempty"`
	NetTxMbit       int    `yaml:"net_tx_mbit,omitempty"`
	NetRxPktsPerSec int    `yaml:"net_rx_pkts_per_sec,omitempty"`
	NetTxPktsPerSec int    `yaml:"net_tx_pkts_per_sec,omitempty"`
}

// version is that of the file's format.
const version = 1

// Parse reads a file and validates every tenant in it. They come sorted by id.
func Parse(data []byte) ([]Wish, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var f file
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, &tenant.InputError{Msg: inWords(err), Hint: hint}
	}
	if err := dec.Decode(&file{}); !errors.Is(err, io.EOF) {
		return nil, &tenant.InputError{Msg: "there is more than one document", Hint: hint}
	}
	if f.Version == 0 {
		return nil, &tenant.InputError{Msg: "it names no version", Hint: "begin with version: 1"}
	}
	if f.Version != version {
		return nil, &tenant.InputError{Msg: fmt.Sprintf("version %d is not known", f.Version), Hint: "begin with version: 1"}
	}
	wishes := make([]Wish, 0, len(f.Tenants))
	for _, id := range slices.Sorted(maps.Keys(f.Tenants)) {
		w, err := f.Tenants[id].wish(id)
		if err == nil {
			err = w.Spec.Validate()
		}
		if err != nil {
			var input *tenant.InputError
			if errors.As(err, &input) {
				return nil, &tenant.InputError{Msg: fmt.Sprintf("tenant %s: %s", id, input.Msg), Hint: input.Hint}
			}
			return nil, err
		}
		wishes = append(wishes, w)
	}
	return wishes, nil
}

// inWords makes the decoder's errors speak of the file, not of the code.
func inWords(err error) string {
	text := words.Replace(err.Error())
	return wrongKind.ReplaceAllStringFunc(text, func(s string) string {
		m := wrongKind.FindStringSubmatch(s)
		have, want := m[2], kinds[m[3]]
		if have == "" {
			have = kinds[m[1]]
		}
		if have == "" || want == "" {
			return s
		}
		return "want " + want + ", not " + have
	})
}

var (
	words     = strings.NewReplacer("yaml: unmarshal errors:\n  ", "", " in type fleet.item", "", " in type fleet.file", "", "yaml: ", "")
	wrongKind = regexp.MustCompile("cannot unmarshal !!(\\w+) ?(`[^`]*`)? into (\\S+)")
	kinds     = map[string]string{
		"seq": "a list", "map": "a mapping",
		"int": "a number", "bool": "true or false", "string": "text", "[]string": "a list",
		"map[string]*fleet.item": "a mapping", "fleet.item": "a mapping", "fleet.file": "a mapping",
	}
)

const hint = "docs/tenants.schema.json says what the file may hold; mvm export writes one"

func (i *item) wish(id string) (Wish, error) {
	if i == nil { // "acme:" alone is a tenant with all defaults
		i = &item{}
	}
	w := Wish{
		Spec: tenant.Spec{
			TenantID: id, FlakeRef: i.Flake, Profile: i.Profile, VCPUs: i.VCPUs, MemMiB: i.MemMiB,
			DataMiB: i.DataMiB, Egress: i.Egress, Restart: i.Restart,
			Machine: tenant.Machine{
				Balloon: i.Balloon, HugePages: i.HugePages, CPUTemplate: i.CPUTemplate,
				DiskMiBPerSec: i.DiskMiBPerSec, DiskOpsPerSec: i.DiskOpsPerSec,
				NetRxMbit: i.NetRxMbit, NetTxMbit: i.NetTxMbit,
				NetRxPktsPerSec: i.NetRxPktsPerSec, NetTxPktsPerSec: i.NetTxPktsPerSec,
			},
		},
		Running: i.Running,
	}
	for _, text := range i.Volumes {
		v, err := tenant.ParseVolume(text)
		if err != nil {
			return w, err
		}
		if _, there := w.Spec.Volumes.At(v.Mount); there || !v.Beside() {
			return w, &tenant.InputError{Msg: fmt.Sprintf("volume %s stands twice, or is none", text), Hint: "data_mib is the size of /data; leave out what is not to be there"}
		}
		w.Spec.Volumes = append(w.Spec.Volumes, v)
	}
	w.Spec.Defaults()
	return w, nil
}

// Encode writes the file that Parse reads.
func Encode(wishes []Wish) ([]byte, error) {
	f := file{Version: version, Tenants: map[string]*item{}}
	for _, w := range wishes {
		s := w.Spec
		var volumes []string
		for _, v := range s.Volumes {
			volumes = append(volumes, v.String())
		}
		f.Tenants[s.TenantID] = &item{
			s.FlakeRef, s.Profile, s.VCPUs, s.MemMiB, s.DataMiB, s.Egress, s.Restart, w.Running, volumes,
			s.Balloon, s.HugePages, s.CPUTemplate, s.DiskMiBPerSec, s.DiskOpsPerSec,
			s.NetRxMbit, s.NetTxMbit, s.NetRxPktsPerSec, s.NetTxPktsPerSec,
		}
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(f), enc.Close())
	return b.Bytes(), err
}
