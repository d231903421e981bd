package supervisor

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/firecracker"
	"github.com/auser/mvm/internal/vmm/qemu"
	"github.com/auser/mvm/internal/volume"
)

// NetworkConfig is the host's side of the network of this state directory.
// config has checked what is parsed here.
func NetworkConfig(s *store.Store, c config.Config) network.Config {
	cfg := network.Config{
		Bridge:      c.Network.Bridge,
		Subnet:      netip.MustParsePrefix(c.Network.Subnet),
		Table:       s.Scoped("mvm", "_"),
		GatewayOpen: c.Network.Gateway == "open",
		Firewall:    c.Network.Firewall,
	}
	if cfg.Bridge == "" {
		cfg.Bridge = "br-tenants"
		if s.Scope != "" {
			cfg.Bridge = "br-" + s.Scope
		}
	}
	for _, d := range c.Network.DNS {
		cfg.DNS = append(cfg.DNS, netip.MustParseAddr(d))
	}
	for _, p := range c.Network.GatewayPorts {
		service, err := config.ParseService(p)
		if err != nil {
			panic(fmt.Sprintf("supervisor: config passed %q: %v", p, err))
		}
		cfg.GatewayPorts = append(cfg.GatewayPorts, network.Service{Proto: service.Proto, Port: service.Port})
	}
	return cfg
}

// Policy is the firewall's form of an egress policy.
func Policy(egress string) (network.Policy, error) {
	e, err := tenant.ParseEgress(egress)
	if err != nil {
		return network.Policy{}, err
	}
	p := network.Policy{Mode: string(e.Mode)}
	for _, r := range e.Rules {
		p.Allow = append(p.Allow, network.Rule{Prefix: r.Prefix, Proto: r.Proto, Port: r.Port})
	}
	return p, nil
}

// Sealer opens and seals secrets.json; nil, which leaves it plain, where no age
// identity is configured.
func Sealer(c config.Config) (*volume.Sealer, error) {
	if c.Secrets.AgeIdentity == "" {
		return nil, nil
	}
	data, err := os.ReadFile(c.Secrets.AgeIdentity)
	if err != nil {
		return nil, fmt.Errorf("cannot read the age identity: %w", err)
	}
	return volume.NewSealer(data)
}

// CgroupParent is the cgroup that holds those of all tenants of s.
func CgroupParent(s *store.Store) string { return s.Scoped("mvm", "-") }

// Driver is the VMM of the host's tier.
func Driver(c config.Config) (vmm.Driver, error) {
	switch c.Tier {
	case config.TierKVM:
		return firecracker.New(firecracker.Options{Binary: c.VMM.Firecracker, Jailer: c.VMM.Jailer, NoJailer: c.VMM.NoJailer})
	case config.TierSoftware:
		return qemu.New(c.VMM.QEMU, qemu.TCG)
	}
	return nil, fmt.Errorf("no tier is decided: mvm setup has not run")
}
