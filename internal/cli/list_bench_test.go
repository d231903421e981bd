package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// BenchmarkList lists 10,000 tenants from disk, as mvm tenant list does.
func BenchmarkList(b *testing.B) {
	root := b.TempDir()
	s, err := store.Open(root)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(s.RunDir) })
	for i := range 10_000 {
		spec := tenant.Spec{TenantID: fmt.Sprintf("tenant-%05d", i)}
		spec.Defaults()
		state := stoppedState(spec)
		if err := os.MkdirAll(s.Tenant(spec.TenantID).VolumesDir(), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := writeQuick(s.Tenant(spec.TenantID).SpecFile(), spec); err != nil {
			b.Fatal(err)
		}
		if err := writeQuick(s.Tenant(spec.TenantID).StateFile(), state); err != nil {
			b.Fatal(err)
		}
	}
	began := processorTime(b)
	for b.Loop() {
		if code := Run(b.Context(), []string{"--root", root, "tenant", "list"}, Streams{In: os.Stdin, Out: io.Discard, Err: os.Stderr}); code != 0 {
			b.Fatalf("exit code %d", code)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/list")
	// What other work on the machine does not change.
	b.ReportMetric((processorTime(b)-began).Seconds()*1000/float64(b.N), "cpu-ms/list")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// stoppedState is that of a tenant which was built, ran and was stopped.
func stoppedState(spec tenant.Spec) tenant.State {
	now, hash := time.Now().UTC(), strings.Repeat("0123456789abcdef", 4)
	return tenant.State{
		SchemaVersion: tenant.SchemaVersion, Spec: spec, Phase: tenant.Stopped, Reason: "stopped on request", Since: now,
		CreatedAt: now, BuiltAt: now, LastStartedAt: now, Tier: "software", VMM: "qemu 7.2.19",
		Net:           tenant.Net{IP: "10.50.0.10", Gateway: "10.50.0.1", CIDR: "10.50.0.0/16", MAC: "02:00:00:00:00:01", TAP: "tap-acme", Bridge: "br-tenants"},
		Artifacts:     tenant.Artifacts{Image: hash, KernelPath: "/k", RootfsPath: "/r", InitrdPath: "/i", FCBaseConfig: "/c", ManifestPath: "/m", ManifestSHA256: hash},
		FlakeLockHash: hash,
		NixStorePaths: []string{"/nix/store/" + hash[:32] + "-kernel", "/nix/store/" + hash[:32] + "-rootfs", "/nix/store/" + hash[:32] + "-initrd"},
	}
}

// writeQuick writes without fsync: 20,000 of them take minutes.
func writeQuick(path string, v any) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeJSON(f, v)
}
