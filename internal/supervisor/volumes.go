package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm/jail"
	"github.com/auser/mvm/internal/volume"
)

// prepareVolumes makes the disks beside the data: those with a size where they
// are missing, the copies of folders always anew.
func (l *launch) prepareVolumes(ctx context.Context) error {
	remove := func(context.Context) error {
		if err := os.RemoveAll(l.t.FoldersDir()); err != nil {
			return fmt.Errorf("cannot remove the copies of folders: %w", err)
		}
		return nil
	}
	if err := remove(ctx); err != nil { // a killed run's
		return err
	}
	l.down.Push("remove the copies of folders", remove)
	for _, v := range l.state.Spec.Volumes {
		prepare := l.prepareVolume
		if v.Folder != "" {
			prepare = l.copyFolder
		}
		if err := prepare(ctx, v); err != nil {
			return fmt.Errorf("volume %s: %w", v.Mount, err)
		}
	}
	return nil
}

// prepareVolume makes sure that a volume that is kept has its size, and locks it
// while the VMM runs.
func (l *launch) prepareVolume(ctx context.Context, v tenant.Volume) error {
	path := l.t.Volume(v)
	if _, err := volume.CreateData(ctx, path, v.SizeMiB, l.state.UID, l.state.UID); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	// It may have more: it was grown and that not written down yet, or it is one
	// that was kept from an earlier time. Its file system may lack a little of the
	// image, and would be grown in vain at each start.
	switch have := info.Size() >> 20; {
	case have < int64(v.SizeMiB):
		if err := volume.Grow(ctx, path, v.SizeMiB); err != nil {
			return err
		}
	case have > int64(v.SizeMiB):
		l.note(fmt.Sprintf("volume %s has %d MiB, more than the %d that it is to have: a volume does not shrink", v.Mount, have, v.SizeMiB))
	}
	lock, report, err := volume.Acquire(ctx, path)
	if err != nil {
		return err
	}
	l.down.Push("unlock the volume "+v.Mount, func(context.Context) error { return lock.Close() })
	if report.Note != "" {
		l.note(fmt.Sprintf("volume %s: %s", v.Mount, report.Note))
	}
	return nil
}

// copyFolder makes a disk of what a folder of the host holds now.
func (l *launch) copyFolder(ctx context.Context, v tenant.Volume) error {
	done, err := volume.MakeFolder(ctx, l.t.Volume(v), v.Folder, volume.FolderOptions{
		MaxBytes: tenant.MaxFolderMiB << 20, UID: l.state.UID, GID: l.state.UID, Without: l.store.Root,
	})
	if errors.Is(err, os.ErrNotExist) {
		return &fault.Error{Err: err, Hint: "make the folder again, or take the volume away: --volume none:" + v.Mount}
	}
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s is a copy of %s (%d files): what the guest changes there is lost with this run", v.Mount, v.Folder, done.Files)
	if done.Skipped > 0 {
		text += fmt.Sprintf("; %d sockets, pipes, devices or mounts are left out", done.Skipped)
	}
	l.note(text)
	return nil
}

func (l *launch) note(text string) {
	l.tell(Progress{Note: text})
	l.log.Info("volumes", "note", text)
}

// volumes are the disks beside the data as the configuration names them.
func (l *launch) volumes() []fcconfig.Volume {
	var all []fcconfig.Volume
	for i, v := range l.state.Spec.Volumes {
		all = append(all, fcconfig.Volume{Path: jail.Volume(fcconfig.VolumeDevice(i)), Mount: v.Mount, Scratch: v.Folder != ""})
	}
	return all
}

// volumeFiles are their images on the host.
func (l *launch) volumeFiles() []jail.Bind {
	var all []jail.Bind
	for i, v := range l.state.Spec.Volumes {
		all = append(all, jail.Bind{Host: l.t.Volume(v), Jail: jail.Volume(fcconfig.VolumeDevice(i))})
	}
	return all
}
