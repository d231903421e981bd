package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/ipam"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// simulated tenants have all files of tenants that were built, ran and were
// stopped, and nothing else. Some of them are put aside at times.
type simulation struct {
	*host
	total, shown int
}

const simulated = "sim-"

var subnet = netip.MustParsePrefix(gateway + "/16")

func simulatedID(i int) string { return fmt.Sprintf("%s%05d", simulated, i) }

// simulate makes n tenants, like the first one.
func (h *host) simulate(n int) (*simulation, error) {
	state, err := h.store.LoadState(first)
	if err != nil {
		return nil, err
	}
	manifest, err := os.ReadFile(h.store.Tenant(first).Manifest())
	if err != nil {
		return nil, err
	}
	marks, err := os.ReadDir(h.store.BuildDir(first))
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(state.Net.IP)
	if err != nil {
		return nil, err
	}
	own, err := ipam.Index(subnet, ip)
	if err != nil {
		return nil, err
	}
	uidBase := state.UID - own
	s := &simulation{h, n, n}
	return s, h.changeLeases(func(leases *ipam.Registry) error {
		for i := range n {
			id := simulatedID(i)
			addr, _, err := leases.Lease(id)
			if err != nil {
				return err
			}
			index, err := ipam.Index(subnet, addr)
			if err != nil {
				return err
			}
			state.Net.IP, state.UID = addr.String(), uidBase+index
			if err := h.make(id, state, manifest, marks); err != nil {
				return err
			}
		}
		return nil
	})
}

// make writes without syncing: 100,000 files of it would take minutes.
func (h *host) make(id string, state tenant.State, manifest []byte, marks []os.DirEntry) error {
	t := h.store.Tenant(id)
	state.Spec.TenantID, state.Phase, state.Reason = id, tenant.Stopped, "stopped on request"
	state.ForgetProcesses()
	state.Net.TAP, state.Net.MAC = tenant.TapName(h.store.Scope, id), tenant.MAC(h.store.Scope, id).String()
	for _, dir := range []string{t.VolumesDir(), t.ArtifactsDir(), t.SSHDir(), t.LogsDir(), t.MetricsDir(), h.store.BuildDir(id)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	stateJSON, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	specJSON, err := json.MarshalIndent(state.Spec, "", "  ")
	if err != nil {
		return err
	}
	write := func(path string, data []byte) { err = errors.Join(err, os.WriteFile(path, data, 0o600)) }
	write(t.DataVolume(), nil)
	write(t.Manifest(), manifest)
	for _, path := range beside(h.store, id) {
		write(path, nil)
	}
	for _, m := range marks {
		if m.Type().IsRegular() {
			write(filepath.Join(h.store.BuildDir(id), m.Name()), nil)
		}
	}
	write(t.StateFile(), stateJSON)
	write(t.SpecFile(), specJSON)
	return err
}

// beside are a tenant's files in the folders that all share.
func beside(s *store.Store, id string) []string {
	locks := strings.TrimSuffix(s.SupervisorLockFile(id), "supervisor")
	return []string{s.AuditFile(id), s.AuditFile(id) + ".head", locks + "supervisor", locks + "lock", locks + "build", locks + "state"}
}

// show makes there be n of the tenants, and puts the others aside.
func (s *simulation) show(n int) error {
	for ; s.shown < n; s.shown++ {
		if err := s.move(s.shown, func(here, aside string) error { return os.Rename(aside, here) }); err != nil {
			return err
		}
	}
	for ; s.shown > n; s.shown-- {
		if err := s.move(s.shown-1, os.Rename); err != nil {
			return err
		}
	}
	return errors.Join(s.lease(), syncAll(s.root))
}

// syncAll writes out what was moved, for which the next command would wait.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

func (s *simulation) move(i int, rename func(here, aside string) error) error {
	id := simulatedID(i)
	aside := filepath.Join(s.aside(), id)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	for n, path := range append(beside(s.store, id), s.store.BuildDir(id), s.store.Tenant(id).Dir) {
		if err := rename(path, filepath.Join(aside, fmt.Sprint(n))); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) aside() string { return filepath.Join(h.root, "aside") }

// lease gives the tenants that are shown, and no others, their addresses.
func (s *simulation) lease() error {
	return s.changeLeases(func(leases *ipam.Registry) error {
		for i := range s.total {
			if i >= s.shown {
				leases.Release(simulatedID(i))
			} else if _, _, err := leases.Lease(simulatedID(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeSimulated takes all simulated tenants away.
func (h *host) removeSimulated() error {
	all := simulated + "*"
	removed := []string{h.aside()}
	for _, pattern := range append(beside(h.store, all), h.store.BuildDir(all), h.store.Tenant(all).Dir) {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		removed = append(removed, paths...)
	}
	for _, path := range removed {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return h.changeLeases(func(leases *ipam.Registry) error {
		for id := range leases.Leases() {
			if strings.HasPrefix(id, simulated) {
				leases.Release(id)
			}
		}
		return nil
	})
}

func (h *host) changeLeases(change func(*ipam.Registry) error) error {
	leases, err := ipam.Load(h.store.LeasesFile(), subnet)
	if err != nil {
		return err
	}
	if err := change(leases); err != nil {
		return err
	}
	data, err := leases.Bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(h.store.LeasesFile(), data, 0o600)
}
