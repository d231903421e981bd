package lima

import (
	"testing"

	"github.com/auser/mvm/internal/vmm/firecracker/install"
)

// TestTheVMGetsThePinnedFirecracker: the release that mvm itself would install.
func TestTheVMGetsThePinnedFirecracker(t *testing.T) {
	pin := install.Pins[0]
	if firecrackerVersion != "v"+pin.Version || firecrackerX86 != pin.Archive["amd64"] || firecrackerARM != pin.Archive["arm64"] {
		t.Errorf("the VM gets %s, mvm is made for %+v", firecrackerVersion, pin)
	}
}
