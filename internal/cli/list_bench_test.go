package cli

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

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
		state := tenant.State{SchemaVersion: tenant.SchemaVersion, Spec: spec, Phase: tenant.Stopped, Since: time.Now(), Net: tenant.Net{IP: "10.50.0.10"}}
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
	for b.Loop() {
		if code := Run(b.Context(), []string{"--root", root, "tenant", "list"}, Streams{In: os.Stdin, Out: io.Discard, Err: os.Stderr}); code != 0 {
			b.Fatalf("exit code %d", code)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/list")
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
