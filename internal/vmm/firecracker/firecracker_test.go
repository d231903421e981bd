package firecracker

import (
	"os"
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

func TestMain(m *testing.M) { vmmtest.Main(m, open) }

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
