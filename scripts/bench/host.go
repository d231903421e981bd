package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// host is a state directory with one built tenant, whose image all others use.
type host struct {
	mvm, root, cache string
	store            *store.Store

	argv   []string // of the first tenant's VMM
	byHand []guest  // what a part made without mvm
	made   int      // how many of these there were
}

// first is the tenant that is built.
const first = "bench"

// gateway is the tenants'.
const gateway = "10.50.0.1"

// guestMiB is the memory of every guest: little, so that many run at once.
const guestMiB = 128

func prepare(ctx context.Context, mvm, cache string) (*host, error) {
	h := &host{mvm: mvm, cache: cache, root: filepath.Join(cache, "bench", "root")}
	if err := os.MkdirAll(h.root, 0o700); err != nil {
		return nil, err
	}
	settings := fmt.Sprintf(`[network]
subnet = "%s/16"
dns = ["192.0.2.53"]
gateway_ports = ["tcp/%d"]
[build]
cache = %q
offline = true
[limits]
cpu_overcommit = 1000.0
memory_overcommit = 10.0
ssh_timeout_sec = 900
stop_timeout_sec = 300
`, gateway, port, filepath.Join(cache, "debian"))
	if err := os.WriteFile(filepath.Join(h.root, "config.toml"), []byte(settings), 0o600); err != nil {
		return nil, err
	}
	var err error
	if h.store, err = store.Open(h.root); err != nil {
		return nil, err
	}
	if err := h.removeAll(ctx); err != nil { // what a run that was killed left
		return nil, err
	}
	for _, args := range [][]string{
		{"setup", "--tier", "software"},
		{"builder", "build-local", "--from", filepath.Join(cache, "builder")},
		createArgs(first),
		{"tenant", "build", first},
	} {
		if _, err := h.do(ctx, args...); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func createArgs(id string) []string {
	return []string{"tenant", "create", id, "--flake", "./nix/debian", "--profile", "minimal", "--cpus", "1", "--mem", strconv.Itoa(guestMiB), "--data-size", "64"}
}

// do runs one command of mvm.
func (h *host) do(ctx context.Context, args ...string) (string, error) {
	return h.with(ctx, h.mvm, args...)
}

func (h *host) with(ctx context.Context, mvm string, args ...string) (string, error) {
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, mvm, append([]string{"--root", h.root}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("mvm %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// another makes a tenant that boots the first one's image.
func (h *host) another(ctx context.Context, id string) error {
	if _, err := h.do(ctx, createArgs(id)...); err != nil {
		return err
	}
	from, to := h.store.Tenant(first).ArtifactsDir(), h.store.Tenant(id).ArtifactsDir()
	if out, err := exec.CommandContext(ctx, "cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot copy the artifacts: %w: %s", err, out)
	}
	built, err := h.store.LoadState(first)
	if err != nil {
		return err
	}
	return h.store.UpdateState(id, func(s *tenant.State) error {
		s.Artifacts, s.FlakeLockHash, s.NixStorePaths, s.BuiltAt = built.Artifacts, built.FlakeLockHash, built.NixStorePaths, built.BuiltAt
		s.Artifacts.ManifestPath = h.store.Tenant(id).Manifest()
		return nil
	})
}

// state is a tenant's, as observed.
func (h *host) state(ctx context.Context, id string) (tenant.State, error) {
	out, err := h.do(ctx, "tenant", "show", id, "--json")
	if err != nil {
		return tenant.State{}, err
	}
	var shown struct {
		State tenant.State `json:"state"`
	}
	err = json.Unmarshal([]byte(out), &shown)
	return shown.State, err
}

func (h *host) removeAll(ctx context.Context) error {
	if err := h.removeSimulated(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(h.root, "tenants"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := strings.TrimPrefix(e.Name(), ".gone-")
		if h.store.Exists(id) {
			_, stopErr := h.do(ctx, "tenant", "stop", id, "--force")
			err = errors.Join(err, stopErr)
		}
		_, destroyErr := h.do(ctx, "tenant", "destroy", id, "--wipe-volumes", "--yes")
		err = errors.Join(err, destroyErr)
	}
	return err
}

// cleanUp ends everything, and fails if something is left.
func (h *host) cleanUp(err *error) {
	ctx := context.Background()
	*err = errors.Join(*err, h.removeAll(ctx))
	left, leftErr := h.leftovers()
	if left != "" {
		leftErr = errors.Join(leftErr, fmt.Errorf("something is left: %s", left))
	}
	*err = errors.Join(*err, leftErr)
}
