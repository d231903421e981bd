package lima

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"
	"text/template"
)

// Engines that the VM can build guests with.
const (
	EngineDocker     = "docker"
	EngineContainerd = "containerd" // rootful, with nerdctl
)

// The Firecracker release that the VM gets, with the sha256 of its archives.
const (
	firecrackerVersion = "v1.17.0"
	firecrackerX86     = "06094a1108ae9e82aa4c23a775aa92758f53f1175d422270d9d6162cb9ade558"
	firecrackerARM     = "e351ebe4f7a16b5873bbd51005d2e6767103cff4d5ebc829df2d3f95a93e2256"
)

// Provisioning writes one of these at its end, at each boot.
const (
	marker = "/run/mvm-lima-ready"  // the template's hash
	failed = "/run/mvm-lima-failed" // what it could not do
)

// Settings are what a person decides about the Lima VM.
type Settings struct {
	Machine Machine
	Engine  string
	CPUs    int
	MemGiB  int
	DiskGiB int
}

//go:embed template.yaml.tmpl
var templateText string

// Lima expands {{…}} itself, so the delimiters here are others.
var vmTemplate = template.Must(template.New("lima").Delims("[[", "]]").Option("missingkey=error").Parse(templateText))

// values are what the template takes.
type values struct {
	Settings
	VMType, Arch, CPUType string
	Nested, Containerd    bool
	Packages, Firecracker string
	SumX86, SumARM        string
	Marker, Failed, Hash  string
}

// Render returns the VM's template for this host, and the hash that the VM
// keeps so that a changed template is noticed.
func Render(h Host, s Settings) (text []byte, hash string, err error) {
	v := values{
		Settings: s, Containerd: s.Engine == EngineContainerd, Marker: marker, Failed: failed,
		SumX86: firecrackerX86, SumARM: firecrackerARM,
	}
	if s.Machine != Software {
		v.Firecracker = firecrackerVersion
	}
	switch s.Engine {
	case EngineDocker, EngineContainerd:
	default:
		return nil, "", fmt.Errorf("%q is no engine for the Lima VM: use docker or containerd", s.Engine)
	}
	v.VMType = "qemu"
	if h.OS == "darwin" {
		v.VMType = "vz"
	}
	v.Arch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[h.Arch]
	switch s.Machine {
	case Native:
		// Lima's qemu passes the host's CPU through as it is; the key is vz's.
		v.Nested = v.VMType == "vz"
	case Software:
	case Emulated:
		v.VMType, v.Arch, v.CPUType = "qemu", "x86_64", "max"
	default:
		return nil, "", fmt.Errorf("%q is no kind of machine", s.Machine)
	}
	v.Packages = packages(v.Arch, s.Engine)
	if text, err = v.render(); err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(text)
	v.Hash = hex.EncodeToString(sum[:8])
	text, err = v.render()
	return text, v.Hash, err
}

func (v values) render() ([]byte, error) {
	var buf bytes.Buffer
	if err := vmTemplate.Execute(&buf, v); err != nil {
		return nil, fmt.Errorf("cannot render the Lima VM's template: %w", err)
	}
	return buf.Bytes(), nil
}

// packages are what mvm needs inside, as Debian names them.
func packages(arch, engine string) string {
	names := []string{
		"busybox-static", "ca-certificates", "conntrack", "curl", "e2fsprogs", "ebtables", "git", "ipset",
		"iproute2", "iptables", "mmdebstrap", "nftables", "openssh-client", "zstd",
	}
	if arch == "aarch64" {
		names = append(names, "qemu-system-arm")
	} else {
		names = append(names, "qemu-system-x86")
	}
	if engine == EngineDocker {
		names = append(names, "docker.io", "docker-cli") // the client is a package of its own since Debian 13
	}
	return strings.Join(names, " ")
}
