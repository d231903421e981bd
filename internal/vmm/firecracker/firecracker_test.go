package firecracker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/vmmtest"
)

// open is the Firecracker under test: the one in PATH, or the one that
// MVM_TEST_FIRECRACKER names. A build without seccomp filters, as one for
// debugging is, needs vmmtest.UnfilteredEnv.
func open() (vmm.Driver, error) {
	return New(Options{
		Binary:          os.Getenv("MVM_TEST_FIRECRACKER"),
		NoJailer:        os.Getenv("MVM_TEST_NO_JAILER") != "",
		AllowUnfiltered: os.Getenv(vmmtest.UnfilteredEnv) != "",
	})
}

func TestMain(m *testing.M) {
	if os.Getenv(standinEnv) != "" {
		fmt.Fprintln(os.Stderr, "standin:", standin(os.Args[1:]))
		os.Exit(1)
	}
	vmmtest.Main(m, open)
}

func TestContract(t *testing.T) {
	if ok, reason := vmm.ProbeKVM(); !ok {
		vmmtest.NotRun(t, "the contract of the Firecracker driver", reason)
	}
	d, err := open()
	if err != nil {
		vmmtest.NotRun(t, "the contract of the Firecracker driver", err.Error())
	}
	vmmtest.Run(t, d)
}

// TestGoldenConfigs: Firecracker itself parses every final configuration that
// package fcconfig makes for its version, and stumbles only over the files that
// are not there. It needs no KVM for that.
func TestGoldenConfigs(t *testing.T) {
	binary, err := find(os.Getenv("MVM_TEST_FIRECRACKER"), "firecracker")
	if err != nil {
		vmmtest.NotRun(t, "parsing the golden configurations with Firecracker", err.Error())
	}
	const testdata = "../../fcconfig/testdata"
	golden, err := filepath.Glob(filepath.Join(testdata, "final", "*.json"))
	if err != nil || len(golden) == 0 {
		t.Fatal("there are no golden configurations", err)
	}
	parse := func(path string) string {
		out, err := exec.CommandContext(t.Context(), binary, "--no-api", "--config-file", path).CombinedOutput()
		if err == nil {
			t.Errorf("%s: Firecracker found a kernel", path)
		}
		return string(out)
	}
	for _, path := range golden {
		if out := parse(path); !strings.Contains(out, "The kernel file cannot be opened") {
			t.Errorf("%s: %s", path, out)
		}
	}
	if out := parse(filepath.Join(testdata, "newer.json")); !strings.Contains(out, "Invalid JSON") {
		t.Errorf("a configuration for a newer Firecracker: %s", out)
	}
}
