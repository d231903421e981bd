// Package config is the host's settings, config.toml in the state directory.
//
// It parses, defaults and validates. What the settings do is other packages'
// business.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/tenant"
)

// Tiers a host can run tenants on.
const (
	TierKVM      = "kvm"      // Firecracker on hardware virtualisation
	TierSoftware = "software" // QEMU's microvm machine with TCG: emulation, no isolation boundary to rely on
)

// Config is the host's settings.
type Config struct {
	Tier       string  `toml:"tier,omitempty"`
	TierReason string  `toml:"tier_reason,omitempty"`
	Network    Network `toml:"network"`
	Build      Build   `toml:"build"`
	Limits     Limits  `toml:"limits"`
	Logs       Logs    `toml:"logs"`
	VMM        VMM     `toml:"vmm"`
	Secrets    Secrets `toml:"secrets"`
}

// Network is the tenants' side of the host's network.
type Network struct {
	Bridge       string   `toml:"bridge,omitempty"`        // default: br-tenants
	Subnet       string   `toml:"subnet"`                  // the gateway's address with the prefix length, /16 to /28, or /30 for a single guest
	DNS          []string `toml:"dns,omitempty"`           // default: the host's own upstreams
	Gateway      string   `toml:"gateway,omitempty"`       // "open": every port of the gateway may be reached
	GatewayPorts []string `toml:"gateway_ports,omitempty"` // tcp/8080, udp/53
	Firewall     string   `toml:"firewall,omitempty"`      // nft or iptables; default: the first that works
}

// Build bounds the build containers.
type Build struct {
	Engine     string `toml:"engine,omitempty"`      // docker, nerdctl or podman; default: the first that answers
	Image      string `toml:"image,omitempty"`       // default: the pinned public Nix image
	Cache      string `toml:"cache,omitempty"`       // a folder that builds see read-only at /cache
	Offline    bool   `toml:"offline,omitempty"`     // build without network, as with build --offline
	FreshStore bool   `toml:"fresh_store,omitempty"` // begin every build with an empty Nix store, as with build --fresh-store
	// A folder of signed store paths that builds may use, and the public keys
	// they accept beside this host's own.
	SharedCache     string   `toml:"shared_cache,omitempty"`
	SharedCacheKeys []string `toml:"shared_cache_keys,omitempty"`
	MemoryMiB       int      `toml:"memory_mib"`
	CPUs            int      `toml:"cpus,omitempty"` // 0: all
	Pids            int      `toml:"pids"`
	TimeoutMin      int      `toml:"timeout_minutes"`
}

// Limits are what tenants share.
type Limits struct {
	UIDBase          int     `toml:"uid_base,omitempty"`        // the first VMM's uid and gid; one for each address of the subnet; default: tenant.UIDBase
	MemoryOvercommit float64 `toml:"memory_overcommit"`         // tenants' memory may add up to this many times the host's
	CPUOvercommit    float64 `toml:"cpu_overcommit"`            // likewise for vCPUs
	VMMOverheadMiB   int     `toml:"vmm_overhead_mib"`          // memory of the VMM itself, beyond the guest's
	VMMPids          int     `toml:"vmm_pids"`                  // threads that a VMM may have beyond its vCPUs
	StopTimeoutSec   int     `toml:"stop_timeout_sec,omitzero"` // how long a guest may take to stop before it is killed; default: see StopTimeout
	SSHTimeoutSec    int     `toml:"ssh_timeout_sec"`           // how long run waits for the guest to answer
	LockTimeoutSec   int     `toml:"lock_timeout_sec"`          // how long a command waits for another one on the same tenant
	RestartWindowSec int     `toml:"restart_window_sec"`        // a run that lasted this long ends a series of crashes, ten times as long the growth of pauses
	// Guests of the software tier that boot side by side; 0: as many as there
	// are CPUs.
	BootsAtOnce int `toml:"boots_at_once,omitempty"`
}

// Logs bounds what a tenant may fill of the disk with its console.
type Logs struct {
	ConsoleMaxMiB int `toml:"console_max_mib"` // of each file
	ConsoleFiles  int `toml:"console_files"`   // how many rotated ones are kept
}

// VMM says where the VMMs are.
type VMM struct {
	Firecracker string `toml:"firecracker,omitempty"` // default: looked up in PATH
	Jailer      string `toml:"jailer,omitempty"`
	QEMU        string `toml:"qemu,omitempty"`
	NoJailer    bool   `toml:"no_jailer,omitempty"` // run Firecracker without its jailer, in mvm's own jail
}

// Secrets at rest.
type Secrets struct {
	AgeIdentity string `toml:"age_identity,omitempty"` // file with an age identity; secrets.json is then encrypted to it
}

// Default is what holds where config.toml says nothing.
func Default() Config {
	return Config{
		Network: Network{Subnet: "10.50.0.1/24"},
		Build:   Build{MemoryMiB: 4096, Pids: 4096, TimeoutMin: 60},
		Limits: Limits{
			MemoryOvercommit: 1, CPUOvercommit: 8,
			VMMOverheadMiB: 256, VMMPids: 64,
			SSHTimeoutSec: 120, LockTimeoutSec: 60, RestartWindowSec: 60,
		},
		Logs: Logs{ConsoleMaxMiB: 4, ConsoleFiles: 2},
	}
}

// StopTimeout is how long a guest may take to stop before it is killed. Emulated
// guests that stop side by side, as when the host goes down, share its CPUs: a
// guest that is killed for want of one loses what it was writing. It is less than
// who wants a guest stopped at once waits for who has asked it to stop.
func (c Config) StopTimeout() time.Duration {
	switch {
	case c.Limits.StopTimeoutSec > 0:
		return time.Duration(c.Limits.StopTimeoutSec) * time.Second
	case c.Tier == TierSoftware:
		return 45 * time.Second
	}
	return 20 * time.Second
}

// Load reads path. A missing file is an empty one.
func Load(path string) (Config, error) {
	c := Default()
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, &fault.Error{Msg: "cannot read this host's settings", Err: err, Hint: "they are a file that root can read; docs/state-directory.md lists what it may hold"}
	}
	c, err = Parse(data)
	if err != nil {
		return c, &tenant.InputError{Msg: fmt.Sprintf("%s: %v", path, err), Hint: "correct the file; docs/state-directory.md lists what it may hold"}
	}
	return c, nil
}

// Parse decodes strictly: an unknown key is an error.
func Parse(data []byte) (Config, error) {
	c := Default()
	meta, err := toml.Decode(string(data), &c)
	if err != nil {
		return c, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, fmt.Errorf("unknown setting %q", unknown[0].String())
	}
	if meta.IsDefined("limits", "stop_timeout_sec") && c.Limits.StopTimeoutSec == 0 { // it would be the default
		return c, errors.New("limits.stop_timeout_sec = 0: want 1 to 3600, or leave it out")
	}
	return c, c.validate()
}

// Encode is the file that Parse reads.
func (c Config) Encode() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteString("# Settings of this mvm host. mvm setup writes tier and tier_reason; the rest is yours.\n\n")
	err := toml.NewEncoder(&buf).Encode(c)
	return buf.Bytes(), err
}

// SetTier returns the file data with the tier and its reason set and every
// other line, comments included, as it was.
func SetTier(data []byte, tier, reason string) []byte {
	var buf bytes.Buffer
	if len(data) == 0 {
		buf.WriteString("# Settings of this mvm host. mvm setup writes tier and tier_reason; the rest is yours.\n")
	}
	fmt.Fprintf(&buf, "tier = %q\ntier_reason = %q\n", tier, reason)
	inTable := false
	for line := range strings.Lines(string(data)) {
		key, _, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(key) {
		case "tier", "tier_reason":
			if !inTable {
				continue
			}
		}
		inTable = inTable || strings.HasPrefix(strings.TrimSpace(line), "[")
		buf.WriteString(line)
	}
	return buf.Bytes()
}

// SetVMM returns the file data with the settings of its [vmm] table that v has
// and every other line as it was.
func SetVMM(data []byte, v VMM) []byte {
	var settings bytes.Buffer
	for _, s := range []struct {
		key, value string
		said       bool
	}{
		{"firecracker", strconv.Quote(v.Firecracker), v.Firecracker != ""},
		{"jailer", strconv.Quote(v.Jailer), v.Jailer != ""},
		{"no_jailer", "true", v.NoJailer},
	} {
		if s.said {
			fmt.Fprintf(&settings, "%s = %s\n", s.key, s.value)
		}
	}
	replaced := func(line string) bool {
		key, _, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) == "no_jailer" {
			return true // left out, it is false
		}
		return strings.Contains("\n"+settings.String(), "\n"+strings.TrimSpace(key)+" = ") && strings.Contains(line, "=")
	}
	var buf bytes.Buffer
	table, written := "", false
	for line := range strings.Lines(string(data)) {
		if trimmed := strings.TrimSpace(line); strings.HasPrefix(trimmed, "[") {
			table, _, _ = strings.Cut(strings.TrimPrefix(trimmed, "["), "]")
			table = strings.TrimSpace(table)
		} else if table == "vmm" && replaced(line) {
			continue
		}
		buf.WriteString(line)
		if table == "vmm" && !written {
			if !strings.HasSuffix(line, "\n") {
				buf.WriteString("\n")
			}
			buf.Write(settings.Bytes())
			written = true
		}
	}
	if !written {
		if n := len(data); n > 0 && data[n-1] != '\n' {
			buf.WriteString("\n")
		}
		buf.WriteString("\n[vmm]\n")
		buf.Write(settings.Bytes())
	}
	return buf.Bytes()
}

func (c Config) validate() error {
	if c.Tier != "" && c.Tier != TierKVM && c.Tier != TierSoftware {
		return fmt.Errorf("tier %q: want kvm or software", c.Tier)
	}
	p, err := netip.ParsePrefix(c.Network.Subnet)
	switch {
	case err != nil || !p.Addr().Is4():
		return fmt.Errorf("network.subnet %q is no IPv4 network", c.Network.Subnet)
	case p.Bits() < 16 || p.Bits() > 28 && p.Bits() != 30:
		return fmt.Errorf("network.subnet %q: want /16 to /28, or /30 for a single guest", c.Network.Subnet)
	case p.Addr() != p.Masked().Addr().Next():
		return fmt.Errorf("network.subnet %q: give the gateway, which is the first address: %s/%d", c.Network.Subnet, p.Masked().Addr().Next(), p.Bits())
	}
	if b := c.Network.Bridge; b != "" && !bridgeName.MatchString(b) {
		return fmt.Errorf("network.bridge %q: want %d letters, digits, '.', '_' or '-' at most, and a letter or digit first", b, tenant.MaxTapName)
	}
	for _, d := range c.Network.DNS {
		if a, err := netip.ParseAddr(d); err != nil || !a.Is4() {
			return fmt.Errorf("network.dns %q is no IPv4 address", d)
		}
	}
	if g := c.Network.Gateway; g != "" && g != "open" {
		return fmt.Errorf(`network.gateway %q: want "open" or nothing`, g)
	}
	switch c.Network.Firewall {
	case "", "nft", "iptables":
	default:
		return fmt.Errorf("network.firewall %q: want nft or iptables", c.Network.Firewall)
	}
	switch c.Build.Engine {
	case "", "docker", "nerdctl", "podman":
	default:
		return fmt.Errorf("build.engine %q: want docker, nerdctl or podman", c.Build.Engine)
	}
	// A supervisor and a container engine have other working directories.
	for name, path := range map[string]string{"build.cache": c.Build.Cache, "build.shared_cache": c.Build.SharedCache, "secrets.age_identity": c.Secrets.AgeIdentity} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%s %q: want an absolute path", name, path)
		}
	}
	for name, path := range map[string]string{"vmm.firecracker": c.VMM.Firecracker, "vmm.jailer": c.VMM.Jailer, "vmm.qemu": c.VMM.QEMU} {
		if strings.Contains(path, "/") && !filepath.IsAbs(path) {
			return fmt.Errorf("%s %q: want an absolute path, or a name that is looked up in PATH", name, path)
		}
	}
	for _, s := range c.Network.GatewayPorts {
		if _, err := ParseService(s); err != nil {
			return fmt.Errorf("network.gateway_ports: %w", err)
		}
	}
	return c.validateNumbers()
}

// minUID is the first that is not the host's own services'.
const minUID = 1000

// minUIDBase leaves the uid below the tenants' first to the dev microVM, whose
// settings are those with a network for a single guest.
func (c Config) minUIDBase() int {
	if strings.HasSuffix(c.Network.Subnet, "/30") {
		return minUID
	}
	return minUID + 1
}

func (c Config) validateNumbers() error {
	for _, n := range []struct {
		name    string
		val     int
		min, to int
	}{
		{"build.memory_mib", c.Build.MemoryMiB, 256, 1 << 20},
		{"build.cpus", c.Build.CPUs, 0, 1024},
		{"build.pids", c.Build.Pids, 64, 1 << 22},
		{"build.timeout_minutes", c.Build.TimeoutMin, 1, 7 * 24 * 60},
		{"limits.uid_base", cmp.Or(c.Limits.UIDBase, tenant.UIDBase("")), c.minUIDBase(), 1<<31 - 1<<17},
		{"limits.vmm_overhead_mib", c.Limits.VMMOverheadMiB, 16, 4096},
		{"limits.vmm_pids", c.Limits.VMMPids, 8, 4096},
		{"limits.stop_timeout_sec", cmp.Or(c.Limits.StopTimeoutSec, 20), 1, 3600},
		{"limits.ssh_timeout_sec", c.Limits.SSHTimeoutSec, 1, 3600},
		{"limits.lock_timeout_sec", c.Limits.LockTimeoutSec, 0, 3600},
		{"limits.restart_window_sec", c.Limits.RestartWindowSec, 1, 86400},
		{"limits.boots_at_once", c.Limits.BootsAtOnce, 0, 1024},
		{"logs.console_max_mib", c.Logs.ConsoleMaxMiB, 1, 1024},
		{"logs.console_files", c.Logs.ConsoleFiles, 1, 100},
	} {
		if n.val < n.min || n.val > n.to {
			return fmt.Errorf("%s = %d: want %d to %d", n.name, n.val, n.min, n.to)
		}
	}
	for name, x := range map[string]float64{"memory": c.Limits.MemoryOvercommit, "cpu": c.Limits.CPUOvercommit} {
		if !(x > 0 && x <= maxOvercommit) { // nor what is no number
			return fmt.Errorf("limits.%s_overcommit = %g: want more than 0 and %g at most", name, x, maxOvercommit)
		}
	}
	return nil
}

const maxOvercommit = 1e6

// bridgeName is what every tool takes for the name of an interface.
var bridgeName = regexp.MustCompile(fmt.Sprintf(`^[A-Za-z0-9][A-Za-z0-9._-]{0,%d}$`, tenant.MaxTapName-1))

// Service is a port of the gateway that tenants may reach.
type Service struct {
	Proto string // tcp or udp
	Port  uint16
}

// ParseService reads tcp/<port> or udp/<port>.
func ParseService(s string) (Service, error) {
	proto, port, ok := strings.Cut(s, "/")
	var n uint16
	if _, err := fmt.Sscanf(port, "%d", &n); !ok || err != nil || n == 0 || proto != "tcp" && proto != "udp" || fmt.Sprint(n) != port {
		return Service{}, fmt.Errorf("%q is not tcp/<port> or udp/<port>", s)
	}
	return Service{proto, n}, nil
}
