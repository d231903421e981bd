package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/auser/mvm/internal/network/ipam"
	"github.com/auser/mvm/internal/tenant"
)

const simulated = "sim-"

// growthPart measures commands while more and more tenants are on disk. Those
// were built, ran and were stopped; only their files are simulated.
func (b *bench) growthPart(ctx context.Context) error {
	sizes := []int{10, 100, 1000, 10_000}
	commands := []struct {
		name string
		do   []string
	}{
		{"list", []string{"tenant", "list"}},
		{"show", []string{"tenant", "show", first}},
		{"create", createArgs("grown")},
		{"destroy", []string{"tenant", "destroy", "grown", "--wipe-volumes", "--yes"}},
		{"run, own part", []string{"tenant", "run", first, "--no-wait"}},
		{"firewall: close", []string{"tenant", "set", first, "--egress", "none"}},
		{"firewall: open", []string{"tenant", "set", first, "--egress", "open"}},
		{"reconcile, no change", []string{"reconcile"}},
		{"stop --force", []string{"tenant", "stop", first, "--force"}},
		{"gc --dry-run", []string{"gc", "--dry-run"}},
	}
	took := map[string]series{}
	for _, size := range sizes {
		if err := b.simulate(size); err != nil {
			return err
		}
		for range max(3, b.runs/2) {
			for _, c := range commands {
				began := time.Now()
				if _, err := b.do(ctx, c.do...); err != nil {
					return fmt.Errorf("beside %d: %w", size, err)
				}
				s := took[fmt.Sprint(c.name, size)]
				s.add(time.Since(began))
				took[fmt.Sprint(c.name, size)] = s
			}
		}
	}
	rows := [][]string{{"median, ms"}}
	for _, size := range sizes {
		rows[0] = append(rows[0], fmt.Sprint(size))
	}
	rows[0] = append(rows[0], "ratio")
	for _, c := range commands {
		row := []string{c.name}
		for _, size := range sizes {
			row = append(row, fmt.Sprintf("%.1f", took[fmt.Sprint(c.name, size)].median()))
		}
		few, many := took[fmt.Sprint(c.name, sizes[0])], took[fmt.Sprint(c.name, sizes[len(sizes)-1])]
		rows = append(rows, append(row, fmt.Sprintf("%.2f", many.median()/few.median())))
	}
	printTable(rows...)
	return b.removeSimulated()
}

// simulate makes there be n simulated tenants.
func (b *bench) simulate(n int) error {
	spec, err := b.store.LoadSpec(first)
	if err != nil {
		return err
	}
	state, err := b.store.LoadState(first)
	if err != nil {
		return err
	}
	manifest, err := os.ReadFile(b.store.Tenant(first).Manifest())
	if err != nil {
		return err
	}
	return b.changeLeases(func(leases *ipam.Registry) error {
		for i := range n {
			id := fmt.Sprintf("%s%05d", simulated, i)
			if b.store.Exists(id) {
				continue
			}
			t, s := b.store.Tenant(id), state
			addr, _, err := leases.Lease(id)
			if err != nil {
				return err
			}
			spec.TenantID = id
			s.Spec, s.Phase, s.Reason = spec, tenant.Stopped, "stopped on request"
			s.ForgetProcesses()
			s.Net.IP, s.Net.TAP, s.Net.MAC = addr.String(), tenant.TapName(b.store.Scope, id), tenant.MAC(b.store.Scope, id).String()
			if err := errors.Join(os.MkdirAll(t.VolumesDir(), 0o700), os.MkdirAll(t.ArtifactsDir(), 0o700)); err != nil {
				return err
			}
			stateJSON, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				return err
			}
			specJSON, err := json.MarshalIndent(spec, "", "  ")
			if err != nil {
				return err
			}
			// Without syncing each: 40,000 of them would take minutes.
			if err := errors.Join(os.WriteFile(t.DataVolume(), nil, 0o600), os.WriteFile(t.Manifest(), manifest, 0o600),
				os.WriteFile(t.StateFile(), stateJSON, 0o600), os.WriteFile(t.SpecFile(), specJSON, 0o600)); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeSimulated takes all simulated tenants away.
func (h *host) removeSimulated() error {
	dirs, err := filepath.Glob(h.store.Tenant(simulated + "*").Dir)
	if err != nil || len(dirs) == 0 {
		return err
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
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
	leases, err := ipam.Load(h.store.LeasesFile(), netip.MustParsePrefix("10.50.0.1/16"))
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
