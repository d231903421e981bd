package lifecycle

import (
	"context"
	"time"

	"github.com/auser/mvm/internal/supervisor"
)

// Restart stops the tenant, where it runs, and runs it. What cannot run anyway
// is not stopped. Killed between the two, it is stopped, and the same call
// again does the rest.
func (h *Host) Restart(ctx context.Context, id string, stop StopOptions, run RunOptions) (Ran, error) {
	began := time.Now()
	if run.Progress == nil {
		run.Progress = func(supervisor.Progress) {}
	}
	already, err := h.stopAndStart(ctx, id, stop, run.Progress)
	if err != nil {
		return Ran{}, err
	}
	return h.answered(ctx, id, run, began, already)
}

func (h *Host) stopAndStart(ctx context.Context, id string, o StopOptions, progress func(supervisor.Progress)) (already bool, err error) {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	status, err := h.Observe(id)
	if err != nil {
		return false, err
	}
	if err := h.checkBootable(status); err != nil {
		return false, err
	}
	if _, err := h.stopRecorded(ctx, id, o); err != nil {
		return false, err
	}
	return h.startLocked(ctx, id, lock, supervisor.Once, progress)
}
