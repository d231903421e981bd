package supervisor

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm/firecracker"
)

// TestAStartRecordsItsVMM: the entry of every start names the VMM's version
// and whether it ran without its jailer; without one, and unasked, it does not
// start.
func TestAStartRecordsItsVMM(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "firecracker"), []byte("#!/bin/sh\necho 'Firecracker v1.16.1'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	st, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(st.RunDir) })
	tn := st.Tenant("acme")
	manifest, err := build.Manifest{Version: build.ManifestVersion, Tenant: "acme"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(tn.Manifest()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tn.Manifest(), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := tenant.Spec{TenantID: "acme"}
	spec.Defaults()
	state := tenant.State{SchemaVersion: tenant.SchemaVersion, Spec: spec, Phase: tenant.Created}
	state.Artifacts.ManifestSHA256 = store.SHA256(manifest)
	if err := st.CreateState("acme", state); err != nil {
		t.Fatal(err)
	}

	s := &supervisor{store: st, t: tn, config: config.Config{Tier: config.TierKVM}}
	if err := (&launch{supervisor: s}).load(t.Context()); !errors.Is(err, firecracker.ErrNoJailer) {
		t.Errorf("without a jailer: %v", err)
	}
	s.config.VMM.NoJailer = true
	for range 2 {
		l := &launch{supervisor: s}
		if err := l.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.recordStart("1.16.1"); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := audit.Read(st.AuditFile("acme"))
	if err != nil || len(entries) != 2 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if e.Act != "start" || e.Detail["vmm"] != "firecracker 1.16.1" || e.Detail["no_jailer"] != true {
			t.Errorf("recorded %+v", e)
		}
	}
	if err := os.WriteFile(tn.Manifest(), append(manifest, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&launch{supervisor: s}).load(t.Context()); !errors.Is(err, build.ErrChanged) {
		t.Errorf("with another manifest: %v", err)
	}
}

// TestWhoStartsItHearsWhy: what a supervisor says of a start that failed is heard
// with its advice, and artifacts that were changed as what they are.
func TestWhoStartsItHearsWhy(t *testing.T) {
	for name, c := range map[string]struct {
		failed  error
		changed bool
		hint    string
	}{
		"changed": {changed(errors.New("the kernel is another")), true, ""},
		"other":   {&fault.Error{Msg: "the kernel is missing", Hint: "find it"}, false, "find it"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s := &supervisor{log: slog.New(slog.DiscardHandler), progress: w}
		s.failStart(c.failed) // which closes its end
		err = follow(t.Context(), r, "its log", func(Progress) {})
		if err == nil || err.Error() != c.failed.Error() || errors.Is(err, build.ErrChanged) != c.changed || fault.Hint(err) != c.hint {
			t.Errorf("%s: heard %v, hint %q", name, err, fault.Hint(err))
		}
	}
}
