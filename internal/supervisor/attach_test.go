package supervisor

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// TestPolicySetMeanwhile: the policy that was set while a run was prepared is
// the one that its network gets, and that is recorded of it.
func TestPolicySetMeanwhile(t *testing.T) {
	if os.Getenv("MVM_TEST_NETNS") == "" {
		cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "MVM_TEST_NETNS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	st, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(st.RunDir) })
	s := &supervisor{store: st, t: st.Tenant("acme"), config: config.Default(), log: slog.New(slog.DiscardHandler)}
	state := tenant.State{
		SchemaVersion: tenant.SchemaVersion, Spec: tenant.Spec{TenantID: "acme"}, UID: 1000, Phase: tenant.Starting,
		Net: tenant.Net{IP: "10.50.0.2", MAC: tenant.MAC(st.Scope, "acme").String(), TAP: tenant.TapName(st.Scope, "acme")},
	}
	state.Spec.Defaults()
	l := &launch{supervisor: s, state: state, detail: map[string]any{"spec": state.Spec}}
	state.Spec.Egress = "allow:198.51.100.7/32"
	if err := os.MkdirAll(s.t.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := st.CreateState("acme", state); err != nil {
		t.Fatal(err)
	}
	if err := l.attachNetwork(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "198.51.100.7") {
		t.Errorf("%v\n%s", err, out)
	}
	if spec := l.detail["spec"].(tenant.Spec); spec.Egress != state.Spec.Egress {
		t.Errorf("recorded as %s", spec.Egress)
	}
}
