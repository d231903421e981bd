package lifecycle

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/tenant"
)

// newHost opens an empty state directory with one tenant in it.
func newHost(t *testing.T) *Host {
	t.Helper()
	h, err := Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.Store.RunDir) })
	addTenant(t, h, "acme")
	return h
}

func addTenant(t *testing.T, h *Host, id string) {
	t.Helper()
	spec := tenant.Spec{TenantID: id}
	spec.Defaults()
	if err := makeFolders(h.Store.Tenant(id)); err != nil {
		t.Fatal(err)
	}
	state := tenant.State{SchemaVersion: tenant.SchemaVersion, Spec: spec, Phase: tenant.Created}
	if err := h.Store.CreateState(id, state); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.SaveSpec(spec); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsAreEncryptedWhereAnIdentityIsConfigured(t *testing.T) {
	h := newHost(t)
	file := h.Store.Tenant("acme").SecretsFile()
	if err := h.SetSecret(t.Context(), "acme", "token", []byte("plain-value")); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || !bytes.Contains(data, []byte("plain-value")) {
		t.Fatalf("%s, %v", data, err)
	}

	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	h.Config.Secrets.AgeIdentity = filepath.Join(t.TempDir(), "identity")
	if err := atomicfile.Write(h.Config.Secrets.AgeIdentity, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.SetSecret(t.Context(), "acme", "db/password", []byte("other-value")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil || bytes.Contains(data, []byte("-value")) || bytes.Contains(data, []byte("token")) {
		t.Errorf("it is not encrypted: %s, %v", data, err)
	}
	names, err := h.SecretNames("acme")
	if err != nil || !slices.Equal(names, []string{"db/password", "token"}) {
		t.Errorf("names = %v, %v", names, err)
	}

	h.Config.Secrets.AgeIdentity = ""
	if _, err := h.SecretNames("acme"); err == nil {
		t.Error("it was read without the identity")
	}
}

// TestSecretsSetAtOnce: of many that are set at the same time none is lost, nor
// one that is set twice; each has its entry in the record.
func TestSecretsSetAtOnce(t *testing.T) {
	h := newHost(t)
	h.Wait = time.Minute
	var all sync.WaitGroup
	var want []string
	for i := range 10 {
		key := fmt.Sprintf("key-%d", i)
		want = append(want, key)
		for range 2 {
			all.Go(func() {
				if err := h.SetSecret(t.Context(), "acme", key, []byte("value")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if names, err := h.SecretNames("acme"); err != nil || !slices.Equal(names, want) {
		t.Errorf("names = %v, %v", names, err)
	}
	if n, _, err := audit.Verify(h.Store.AuditFile("acme")); err != nil || n != 20 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func TestRefusedSecretsChangeNothing(t *testing.T) {
	h := newHost(t)
	if err := h.SetSecret(t.Context(), "acme", "../x", []byte("value")); err == nil {
		t.Error("a key that leads elsewhere was taken")
	}
	if _, err := os.Stat(h.Store.Tenant("acme").SecretsFile()); !os.IsNotExist(err) {
		t.Errorf("secrets.json is there: %v", err)
	}
	if err := h.SetSecret(t.Context(), "../acme", "k", nil); err == nil {
		t.Error("an id that leads elsewhere was taken")
	}
}
