package limacli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestDoctorStartsNothing looks at a VM that is not there, one that runs, and
// one that is stopped or broken.
func TestDoctorStartsNothing(t *testing.T) {
	w := newWorld(t)
	if out, code := w.mvm(t, "", "doctor"); code != 5 || !strings.Contains(out, "there is no Lima VM mvm") {
		t.Errorf("missing: exit %d: %s", code, out)
	}
	w.setUp(t)
	if out, code := w.mvm(t, "", "doctor", "--json"); code != 0 || out != "[\"doctor\" \"--json\"]\n" {
		t.Errorf("running: exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "lima", "stop"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	for _, status := range []string{"Stopped", "Broken"} {
		w.home.Set(t, "mvm", "status", status)
		out, code := w.mvm(t, "", "doctor")
		want := "the Lima VM mvm does not run (" + status + ")"
		if code != 5 || !strings.Contains(out, want) || !strings.Contains(out, "hint: mvm setup") {
			t.Errorf("%s: exit %d: %s", status, code, out)
		}
		if got := w.findings(t); len(got) != 1 || got[0].Check != "Lima VM" || got[0].Level != "failure" || got[0].Found != want || !strings.HasPrefix(got[0].Fix, "mvm setup") {
			t.Errorf("%s: %+v", status, got)
		}
		if out, _ := w.mvm(t, "", "lima", "status"); !strings.Contains(out, status) {
			t.Errorf("it did not stay %s: %s", status, out)
		}
	}
}

// findings are what doctor says as JSON of a VM that it cannot look inside of.
func (w *world) findings(t *testing.T) (found []finding) {
	t.Helper()
	cmd := w.command("doctor", "--json")
	out, _ := cmd.Output()
	if err := json.Unmarshal(out, &found); err != nil || cmd.ProcessState.ExitCode() != 5 {
		t.Fatalf("exit %d: %v: %s", cmd.ProcessState.ExitCode(), err, out)
	}
	return found
}

// In a Lima VM that is stopped nothing runs: it is not started to stop that.
func TestStopStartsNothing(t *testing.T) {
	w := ready(t)
	w.mvm(t, "", "lima", "stop")
	out, code := w.mvm(t, "", "stop")
	if code != 0 || !strings.Contains(out, "does not run") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, _ := w.mvm(t, "", "lima", "status"); !strings.Contains(out, "Stopped") {
		t.Error(out)
	}
}

// mvm status says how the Lima VM is, and leaves one that does not run alone.
func TestStatusNamesTheVM(t *testing.T) {
	w := newWorld(t)
	if out, code := w.mvm(t, "", "status"); code != 0 || !strings.Contains(out, "Lima VM      none: mvm setup makes it") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "status", "--json"); code != 0 || !strings.Contains(out, `"status": "missing"`) {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "setup", "--machine", "software"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	type answer struct {
		Lima limaState      `json:"lima"`
		VMM  string         `json:"vmm"`
		Dev  map[string]any `json:"dev"`
	}
	ask := func() (got answer) {
		t.Helper()
		out, code := w.mvm(t, "", "status", "--json")
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
			t.Fatalf("exit %d: %v: %s", code, err, out)
		}
		return got
	}

	inside := `{"vmm": "qemu", "dev": {"there": true}}`
	if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/status"), []byte(inside), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := w.mvm(t, "", "status")
	if code != 0 || !strings.Contains(out, "Lima VM      mvm, running\nLima tier    software tier, as asked: ") || !strings.HasSuffix(out, inside) {
		t.Errorf("exit %d: %s", code, out)
	}
	if got := ask(); got.Lima.Status != "Running" || got.Lima.Tier != "software" || got.Lima.TierReason == "" || got.VMM != "qemu" || got.Dev["there"] != true {
		t.Errorf("%+v", got)
	}

	for _, status := range []string{"Stopped", "Broken"} {
		w.home.Set(t, "mvm", "status", status)
		before := len(w.home.Calls(t))
		out, code := w.mvm(t, "", "status")
		if code != 0 || !strings.Contains(out, "mvm, "+strings.ToLower(status)+"\n") || !strings.Contains(out, "software tier") || strings.Contains(out, inside) {
			t.Errorf("%s: exit %d: %s", status, code, out)
		}
		if got := ask(); got.Lima.Status != status || got.Lima.Tier != "software" || got.Dev != nil {
			t.Errorf("%s: %+v", status, got)
		}
		for _, c := range w.home.Calls(t)[before:] {
			if c[0] != "list" {
				t.Errorf("%s: it ran limactl %q", status, c)
			}
		}
	}
}
