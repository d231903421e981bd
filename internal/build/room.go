package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/diskspace"
)

// A build's memory, processes and time are its container's to bound. What it
// writes is not, where engines have no quota: its store and its outputs could
// fill a disk that other tenants' volumes are on.

// lookForRoom is how often the disks are looked at.
const lookForRoom = 100 * time.Millisecond

// watchRoom ends a build that leaves its disks too little room: it calls end,
// once, unless ctx ends first. Where there is too little before the build begins,
// that is no fault of the build's, and an error. An engine on another machine has
// disks that are not looked at.
func (b *builder) watchRoom(ctx context.Context, out string, end func(error)) error {
	var watched disks
	for _, dir := range []string{out, b.engine.volumePath(ctx, b.store().name(b.req.Scope))} {
		if dir == "" {
			continue
		}
		f, err := os.OpenFile(dir, unix.O_PATH, 0)
		if err != nil {
			watched.close()
			return fmt.Errorf("cannot watch the build's disk: %w", err)
		}
		watched = append(watched, f)
	}
	err := watched.look()
	if errors.Is(err, diskspace.ErrFull) {
		err = &Error{Kind: ErrHost, Msg: "cannot build: there is too little room on the disk", Hint: "free some space, `mvm gc` removes what nothing uses"}
	}
	if err != nil {
		watched.close()
		return err
	}
	go func() {
		defer watched.close()
		tick := time.NewTicker(lookForRoom)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := watched.look(); err != nil {
				end(errors.Join(err, diskspace.ErrFull))
			}
		}
	}()
	return nil
}

// disks are folders on the disks that a build writes to.
type disks []*os.File

func (d disks) look() error {
	for _, f := range d {
		if room, err := diskspace.Room(f); err != nil {
			return err
		} else if room <= 0 {
			return diskspace.ErrFull
		}
	}
	return nil
}

func (d disks) close() {
	for _, f := range d {
		f.Close()
	}
}

// filled is the error of a build that watchRoom ended. The store goes, with all
// that the build has put there: others need the room.
func (b *builder) filled(ctx context.Context) error {
	full := &Error{Kind: ErrHost, Msg: "cannot build: it leaves too little room on the disk, and was ended", Log: b.log.lastWords(),
		Hint: "free some space, `mvm gc` removes what nothing uses; or see what the flake writes so much of"}
	if ctx.Err() != nil {
		return full
	}
	return errors.Join(full, b.engine.removeVolume(ctx, b.store().name(b.req.Scope)))
}
