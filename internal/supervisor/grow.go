package supervisor

import (
	"context"
	"net"
	"time"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/volume"
)

// growDeadline bounds what is waited for the VM and for its VMM's answer.
const growDeadline = 30 * time.Second

// handleGrow makes the data volume of the guest that runs larger. It goes on
// when the client leaves; whoever asks again finds done what was done.
func (s *supervisor) handleGrow(req request, conn net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), growDeadline)
	defer cancel()
	r := Reply{Done: true}
	if err := s.withVM(ctx, func(vm vmm.VM) error { return s.grow(ctx, vm, req.Size) }); err != nil {
		r.Error = err.Error()
	}
	reply(conn, r)
}

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
