package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// growData makes the data volume mib MiB large, also under a guest that runs.
// The note says why the file system in it is to follow at the next start.
func (h *Host) growData(ctx context.Context, s Status, mib int) (note string, err error) {
	if mib < s.Spec.DataMiB {
		return "", &tenant.InputError{Msg: fmt.Sprintf("the data volume has %d MiB and cannot shrink", s.Spec.DataMiB), Hint: "export it, destroy the tenant, create it smaller and import"}
	}
	if s.supervised {
		return h.growLive(ctx, s, mib)
	}
	if _, err := h.atRest(ctx, s.ID); err != nil {
		return "", fmt.Errorf("cannot grow the data volume: %w", err)
	}
	return "", volume.Grow(ctx, h.Store.Tenant(s.ID).DataVolume(), mib)
}

// settleData has the file system of a data volume follow that is as large as
// the spec says, where the guest could not when it was grown. The note says
// what is still to come.
func (h *Host) settleData(ctx context.Context, s Status) (note string, err error) {
	info, err := volume.Inspect(h.Store.Tenant(s.ID).DataVolume())
	switch {
	case errors.Is(err, volume.ErrForeign), errors.Is(err, volume.ErrDamaged):
		return "", nil // the guest's doing, of which the next start speaks
	case err != nil:
		return "", err
	case !info.Lags():
		return "", nil
	}
	return h.growFileSystem(ctx, s)
}

// growLive grows the disk of a guest that runs, and has the guest grow its file
// system. Where the guest cannot, the next start does.
func (h *Host) growLive(ctx context.Context, s Status, mib int) (note string, err error) {
	err = h.askVM(ctx, s, func(c supervisor.Client, ctx context.Context) error { return c.Grow(ctx, int64(mib)<<20) })
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrState) {
			err = &Error{Kind: ErrState, Msg: err.Error(), Hint: "mvm tenant stop " + s.ID}
		}
		return "", fmt.Errorf("cannot grow the data volume: %w", err)
	}
	crash.Point("grow/extended")
	return h.growFileSystem(ctx, s)
}

// growFileSystem has a guest that runs grow the file system to the size of its
// disk. The note says why that is left to the next start.
func (h *Host) growFileSystem(ctx context.Context, s Status) (note string, err error) {
	why := fmt.Sprintf("the guest is %s", s.Phase)
	if s.Running && s.Phase == tenant.Running {
		if why, err = h.growInGuest(ctx, s.ID); err != nil || why == "" {
			return "", err
		}
	}
	return "the disk has grown; its file system grows at the next start: " + why, nil
}

// guestGrowDeadline bounds the guest's work, which an emulated one takes
// seconds for.
const guestGrowDeadline = time.Minute

// growInGuest has the guest grow the mounted file system, and says why it did
// not.
func (h *Host) growInGuest(ctx context.Context, id string) (why string, err error) {
	target, err := h.Place(id)
	if err != nil {
		return "", err
	}
	limited, cancel := context.WithTimeout(ctx, guestGrowDeadline)
	defer cancel()
	// A login without a shell may not look where the administrator's tools are.
	_, err = ssh.Exec(limited, target, "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; exec resize2fs /dev/vdb")
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit) && exit.Code == 127:
		return "the guest has no resize2fs", nil
	case errors.As(err, &exit): // what it said is the guest's, and not for a terminal
		return fmt.Sprintf("the guest's resize2fs failed with exit status %d", exit.Code), nil
	}
	return err.Error(), nil
}
