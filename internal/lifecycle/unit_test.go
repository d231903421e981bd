package lifecycle

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/goldenfile"
)

func TestReconcileUnit(t *testing.T) {
	goldenfile.Check(t, "testdata/mvm-reconcile.service", reconcileUnit("/usr/local/bin/mvm", "/var/lib/mvm"))
	goldenfile.Check(t, "testdata/mvm-reconcile-odd.service", reconcileUnit(`/opt/a b/100%/$x/"q"/mvm`, `/srv/m v`))
}

// TestSystemdAcceptsTheUnit asks systemd's own checker, which needs no running
// systemd.
func TestSystemdAcceptsTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is missing: scripts/install-packages test installs it")
	}
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mvm-reconcile.service")
	verify := func(unit string) ([]byte, error) {
		if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		return exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
	}
	if out, err := verify(reconcileUnit(program, "/var/lib/mvm")); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := verify(reconcileUnit("no/path", "/var/lib/mvm")); err == nil {
		t.Errorf("the checker accepts anything: %s", out)
	}
}
