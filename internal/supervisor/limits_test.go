package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

const limitedEnv = "MVM_SUPERVISOR_TEST_LIMITED"

// TestLogsFitTheLimits: the limit of file sizes, which the smallest volumes give
// a supervisor, leaves its logs as large as the settings allow.
func TestLogsFitTheLimits(t *testing.T) {
	if os.Getenv(limitedEnv) == "" { // the limits are for good
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestLogsFitTheLimits$")
		cmd.Env = append(os.Environ(), limitedEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	st, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(st.RunDir) })
	cfg := config.Default()
	cfg.Logs.ConsoleMaxMiB = 1024
	s := &supervisor{store: st, t: st.Tenant("acme"), config: cfg}
	spec := tenant.Spec{TenantID: "acme"}
	spec.Defaults()
	for _, dir := range []string{s.t.VolumesDir(), s.t.LogsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	full := int64(cfg.Logs.ConsoleMaxMiB)<<20 - 4
	for path, size := range map[string]int64{s.t.DataVolume(): 16 << 20, s.t.ConsoleLog(): full} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil { // takes no room
			t.Fatal(err)
		}
	}
	if err := st.SaveSpec(spec); err != nil {
		t.Fatal(err)
	}
	if err := s.limitSelf(); err != nil {
		t.Fatal(err)
	}
	log, err := s.openLog(s.t.ConsoleLog())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"last", "next"} { // the second begins a new file
		if _, err := log.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int64{s.t.ConsoleLog() + ".1": full + 4, s.t.ConsoleLog(): 4} {
		if info, err := os.Stat(path); err != nil || info.Size() != want {
			t.Errorf("%s: %v, %v, want %d bytes", path, info, err, want)
		}
	}
}
