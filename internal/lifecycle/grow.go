package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// disk is a volume that is kept: the data, or one beside it.
type disk struct {
	mount    string
	name     string // for people
	path     string // its image
	device   string // in the guest
	attached bool   // the run that goes on has it
}

// disk finds the volume that is mounted there.
func (h *Host) disk(s Status, mount string) disk {
	t := h.Store.Tenant(s.ID)
	if mount == tenant.DataMount {
		return disk{mount: mount, name: "data volume", path: t.DataVolume(), device: "/dev/vdb", attached: s.supervised}
	}
	d := disk{mount: mount, name: "volume " + mount, path: t.Volume(tenant.Volume{Mount: mount})}
	if i := s.State.Spec.Volumes.Kept(mount); i >= 0 && s.supervised {
		d.device, d.attached = "/dev/"+fcconfig.VolumeDevice(i), true
	}
	return d
}

// disks are all volumes of the tenant that are kept.
func (h *Host) disks(s Status) []disk {
	all := []disk{h.disk(s, tenant.DataMount)}
	for _, v := range s.Spec.Volumes {
		if v.Folder == "" {
			all = append(all, h.disk(s, v.Mount))
		}
	}
	return all
}

// growAll makes the volumes as large as to says, also under a guest that runs.
// The note says why a file system is to follow at the next start.
func (h *Host) growAll(ctx context.Context, s Status, to tenant.Spec) (note string, err error) {
	if to.DataMiB < s.Spec.DataMiB {
		return "", &tenant.InputError{Msg: fmt.Sprintf("the data volume has %d MiB and cannot shrink", s.Spec.DataMiB), Hint: "export it, destroy the tenant, create it smaller and import"}
	}
	var notes []string
	grow := func(mount string, mib int) error {
		d := h.disk(s, mount)
		note, err := h.grow(ctx, s, d, mib)
		if err != nil {
			return fmt.Errorf("cannot grow the %s: %w", d.name, err)
		}
		notes = append(notes, note)
		return nil
	}
	if to.DataMiB != s.Spec.DataMiB {
		if err := grow(tenant.DataMount, to.DataMiB); err != nil {
			return "", err
		}
	}
	for _, v := range to.Volumes {
		if before, there := s.Spec.Volumes.At(v.Mount); !there || before == v || before.Folder != "" || v.Folder != "" {
			continue // it is made, or made as large, at the next start
		}
		if err := grow(v.Mount, v.SizeMiB); err != nil {
			return "", err
		}
	}
	return joinNotes(notes), nil
}

// joinNotes makes one line of those that say something.
func joinNotes(notes []string) string {
	return strings.Join(slices.DeleteFunc(notes, func(n string) bool { return n == "" }), "; ")
}

func (h *Host) grow(ctx context.Context, s Status, d disk, mib int) (note string, err error) {
	switch {
	case d.attached:
		return h.growLive(ctx, s, d, mib)
	case s.supervised: // the next run has it
		return "", nil
	}
	if _, err := h.atRest(ctx, s.ID); err != nil {
		return "", err
	}
	err = volume.Grow(ctx, d.path, mib)
	if d.mount != tenant.DataMount && errors.Is(err, fs.ErrNotExist) {
		err = nil // it is made at the next start
	}
	return "", err
}

// settle has the file systems of volumes follow that are as large as the spec
// says, where the guest could not when they were grown. The note says what is
// still to come.
func (h *Host) settle(ctx context.Context, s Status) (note string, err error) {
	var notes []string
	for _, d := range h.disks(s) {
		if note, err = h.settleOne(ctx, s, d); err != nil {
			return "", err
		}
		notes = append(notes, note)
	}
	return joinNotes(notes), nil
}

func (h *Host) settleOne(ctx context.Context, s Status, d disk) (note string, err error) {
	info, err := volume.Inspect(d.path)
	switch {
	case errors.Is(err, volume.ErrForeign), errors.Is(err, volume.ErrDamaged):
		return "", nil // the guest's doing, of which the next start speaks
	case d.mount != tenant.DataMount && errors.Is(err, fs.ErrNotExist):
		return "", nil // it is made at the next start
	case err != nil:
		return "", err
	case !info.Lags():
		return "", nil
	}
	return h.growFileSystem(ctx, s, d)
}

// growLive grows the disk of a guest that runs, and has the guest grow its file
// system. Where the guest cannot, the next start does.
func (h *Host) growLive(ctx context.Context, s Status, d disk, mib int) (note string, err error) {
	err = h.askVM(ctx, s, func(c supervisor.Client, ctx context.Context) error {
		return c.Grow(ctx, d.mount, int64(mib)<<20)
	})
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrState) {
			err = &Error{Kind: ErrState, Msg: err.Error(), Hint: h.Command("stop", s.ID)}
		}
		return "", err
	}
	crash.Point("grow/extended")
	return h.growFileSystem(ctx, s, d)
}

// growFileSystem has a guest that runs grow the file system to the size of its
// disk. The note says why that is left to the next start.
func (h *Host) growFileSystem(ctx context.Context, s Status, d disk) (note string, err error) {
	why := fmt.Sprintf("the guest is %s", s.Phase)
	if d.attached && s.Running && s.Phase == tenant.Running {
		if why, err = h.growInGuest(ctx, s.ID, d.device); err != nil || why == "" {
			return "", err
		}
	}
	return fmt.Sprintf("the disk of the %s has grown; its file system grows at the next start: %s", d.name, why), nil
}

// guestGrowDeadline bounds the guest's work, which an emulated one takes
// seconds for.
const guestGrowDeadline = time.Minute

// growInGuest has the guest grow the mounted file system, and says why it did
// not.
func (h *Host) growInGuest(ctx context.Context, id, device string) (why string, err error) {
	target, err := h.Place(id)
	if err != nil {
		return "", err
	}
	limited, cancel := context.WithTimeout(ctx, guestGrowDeadline)
	defer cancel()
	// A login without a shell may not look where the administrator's tools are.
	_, err = ssh.Exec(limited, target, "sh", "-c", `PATH=$PATH:/usr/sbin:/sbin; exec resize2fs "$1"`, "sh", device)
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
