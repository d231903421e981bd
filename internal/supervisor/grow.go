package supervisor

import (
	"context"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/volume"
)

// growDeadline bounds the VMM's answer.
const growDeadline = 30 * time.Second

// grow makes a volume of the guest that runs larger: the one at mount.
func (s *supervisor) grow(ctx context.Context, vm vmm.VM, mount string, size int64) error {
	path, drive := s.t.DataVolume(), fcconfig.DriveData
	if mount != tenant.DataMount {
		state, err := s.store.LoadState(s.t.ID)
		if err != nil {
			return err
		}
		at := state.Spec.Volumes.Kept(mount)
		if at < 0 {
			return fmt.Errorf("this run has no volume %s", mount)
		}
		path, drive = s.t.Volume(state.Spec.Volumes[at]), fcconfig.VolumeDevice(at)
	}
	if err := vmm.AllowFile(vm.Process(), uint64(max(size, 0))); err != nil {
		return err
	}
	if err := volume.Extend(path, size); err != nil {
		return err
	}
	crash.Point("supervisor/extended")
	return vm.Resize(ctx, drive, size)
}
