package lifecycle

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/tenant"
)

func TestSetupNeedsAVMM(t *testing.T) {
	h := newHost(t)
	t.Setenv("PATH", t.TempDir())
	_, err := h.Setup(t.Context(), SetupOptions{Tier: "software"})
	var advised *Error
	if !errors.As(err, &advised) || !errors.Is(err, ErrHost) || !strings.Contains(advised.Hint, "qemu-system-x86") {
		t.Fatalf("err = %v, want one of the host's with a hint", err)
	}
	if _, err := os.Stat(h.Store.ConfigFile()); !os.IsNotExist(err) {
		t.Errorf("a tier was decided all the same: %v", err)
	}
	var input *tenant.InputError
	if _, err := h.Setup(t.Context(), SetupOptions{Tier: "fast"}); !errors.As(err, &input) {
		t.Errorf("err = %v, want an InputError", err)
	}
}

func TestRunNeedsSetupAndABuild(t *testing.T) {
	h := newHost(t)
	var advised *Error
	if _, err := h.Run(t.Context(), "acme", RunOptions{}); !errors.As(err, &advised) || advised.Hint != "mvm tenant build acme" {
		t.Errorf("err = %v, want a hint to build", err)
	}
	if err := h.Store.UpdateState("acme", func(s *tenant.State) error { s.Artifacts.Image = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(t.Context(), "acme", RunOptions{}); !errors.As(err, &advised) || advised.Hint != "mvm setup" {
		t.Errorf("err = %v, want a hint to set up", err)
	}
}

// TestKilledAdoptConverges: create --adopt-volumes, killed after any of its
// steps and given again, ends with the adopted data; a create without it
// starts fresh and loses nothing.
func TestKilledAdoptConverges(t *testing.T) {
	h := newHost(t)
	tn := h.Store.Tenant("beta")
	retain := func() string {
		t.Helper()
		if err := makeFolders(tn); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(tn.DataVolume(), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir, err := h.retain("beta")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	holds := func(path, want string) {
		t.Helper()
		if data, err := os.ReadFile(path); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v", path, data, err)
		}
	}
	settle := func(adopt bool) (string, []string) {
		t.Helper()
		if err := makeFolders(tn); err != nil {
			t.Fatal(err)
		}
		names, err := h.Retained("beta")
		if err != nil {
			t.Fatal(err)
		}
		name, rest, err := h.settleVolumes(tn, names, adopt, os.Getuid())
		if err != nil {
			t.Fatal(err)
		}
		return name, rest
	}

	retain()
	for range 2 { // the second is the create after the kill
		if name, _ := settle(true); name == "" {
			t.Error("nothing was adopted")
		}
		holds(tn.DataVolume(), "precious")
	}
	name, rest := settle(false)
	if name != "" || len(rest) != 1 {
		t.Fatalf("adopted %q, retained %v: want a fresh start that names what is kept", name, rest)
	}
	holds(h.Store.RetainedDir()+"/"+rest[0]+"/data.ext4", "precious")
	if _, err := os.Stat(tn.DataVolume()); !os.IsNotExist(err) {
		t.Errorf("the fresh tenant has data: %v", err)
	}
}
