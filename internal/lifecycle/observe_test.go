package lifecycle

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/tenant"
)

// TestListShowsTenantsOnly: folders without a spec are none, nor is what is no
// mvm's; one that cannot be read is listed with its error.
func TestListShowsTenantsOnly(t *testing.T) {
	h := newHost(t) // with acme
	tenants := filepath.Dir(h.Store.Tenant("acme").Dir)
	for _, name := range []string{"half-created", ".gone-beta", "Notes", "damaged", "stateless"} {
		if err := os.MkdirAll(filepath.Join(tenants, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(h.Store.Tenant("damaged").SpecFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := tenant.Spec{TenantID: "stateless"}
	spec.Defaults()
	if err := h.Store.SaveSpec(spec); err != nil {
		t.Fatal(err)
	}
	list, err := h.List()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, l := range list {
		ids = append(ids, l.ID)
		if broken := l.ID != "acme"; broken != (l.Error != "") {
			t.Errorf("%s: error %q", l.ID, l.Error)
		}
	}
	if got := strings.Join(ids, " "); got != "acme damaged stateless" {
		t.Errorf("listed: %s", got)
	}
}

// TestHintsAreCommands: what an error advises for the dev microVM is a command of
// its own; it is no tenant.
func TestHintsAreCommands(t *testing.T) {
	tenants, dev := newHost(t), newHost(t)
	dev.Parent = tenants
	for h, command := range map[*Host]string{tenants: `^mvm tenant (run|build) acme$`, dev: `^mvm start$`} {
		_, target := h.Target("acme")
		_, paused := h.Pause(t.Context(), "acme")
		_, verified := h.Verify(t.Context(), "acme")
		_, ran := h.Run(t.Context(), "acme", RunOptions{})
		for what, err := range map[string]error{
			"reach": target, "pause": paused, "verify": verified, "run": ran, "wait": h.waitForTurn(t.Context(), "acme"),
		} {
			if hint := fault.Hint(err); !regexp.MustCompile(command).MatchString(hint) {
				t.Errorf("%s: %v: the hint is %q, want %s", what, err, hint, command)
			}
		}
	}
}
