package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/auser/mvm/internal/diskspace"
)

// A build's memory, processes and time are its container's to bound. What it
// writes is not, where engines have no quota: its store and its outputs could
// fill a disk that other tenants' volumes are on.

// lookForRoom is how often the disks are looked at.
const lookForRoom = 100 * time.Millisecond

// watchRoom ends a build that leaves its disks too little room: it calls end,
// once, unless ctx ends first. An engine on another machine has disks that are
// not looked at.
func (b *builder) watchRoom(ctx context.Context, out string, end func(error)) error {
	var disks []*os.File
	for _, dir := range []string{out, b.engine.volumePath(ctx, b.store().name(b.req.Scope))} {
		if dir == "" {
			continue
		}
		f, err := os.Open(dir)
		if err != nil {
			for _, f := range disks {
				f.Close()
			}
			return fmt.Errorf("cannot watch the build's disk: %w", err)
		}
		disks = append(disks, f)
	}
	go func() {
		tick := time.NewTicker(lookForRoom)
		defer tick.Stop()
		for {
			for _, f := range disks {
				if room, err := diskspace.Room(f); err != nil || room <= 0 {
					end(errors.Join(err, diskspace.ErrFull))
					break
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				for _, f := range disks {
					f.Close()
				}
				return
			}
		}
	}()
	return nil
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
