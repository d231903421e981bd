package qemu

import (
	"testing"

	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/vmmtest"
)

func open() (vmm.Driver, error) { return New("", TCG) }

func TestMain(m *testing.M) { vmmtest.Main(m, open) }

func TestContract(t *testing.T) {
	d, err := open()
	if err != nil {
		t.Fatal(err)
	}
	vmmtest.Run(t, d)
}
