package supervisor

import (
	"context"
	"time"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/volume"
)

// growDeadline bounds the VMM's answer.
const growDeadline = 30 * time.Second

// grow makes the data volume of the guest that runs larger.
func (s *supervisor) grow(ctx context.Context, vm vmm.VM, size int64) error {
	if err := vmm.AllowFile(vm.Process(), uint64(max(size, 0))); err != nil {
		return err
	}
	if err := volume.Extend(s.t.DataVolume(), size); err != nil {
		return err
	}
	crash.Point("supervisor/extended")
	return vm.Resize(ctx, fcconfig.DriveData, size)
}
