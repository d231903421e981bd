package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Guests that boot take turns: n of them have a place each, and the others
// queue. A place is a lock like any other, so that the kernel gives it back
// when its holder dies. Nobody waits for one with a lock that others want.

const theBoots = "the boots of other tenants"

// LockBoot takes one of n places. Where all are taken it waits for one, in the
// order of arrival, until ctx ends.
func (s *Store) LockBoot(ctx context.Context, n int) (*Lock, error) {
	// Nobody can wait for whichever of several locks is free first. So the
	// first of the queue looks at them, now and then, and the kernel wakes the
	// next one when it has found a place.
	first, err := s.lock(ctx, filepath.Join(s.locksDir(), "boot.queue"), theBoots, forever)
	if err != nil {
		return nil, err
	}
	defer first.Unlock()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		place, err := s.tryBoot(ctx, n)
		var busy *BusyError
		if !errors.As(err, &busy) {
			return place, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("gave up waiting for %s: %w", theBoots, ctx.Err())
		}
	}
}

// tryBoot takes the first place that is free.
func (s *Store) tryBoot(ctx context.Context, n int) (place *Lock, err error) {
	for i := range n {
		place, err = s.lock(ctx, filepath.Join(s.locksDir(), fmt.Sprintf("boot.%d", i)), theBoots, 0)
		var busy *BusyError
		if !errors.As(err, &busy) {
			break
		}
	}
	return place, err
}
