package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBootPlaces: there are never more than the places, and everybody gets one.
func TestBootPlaces(t *testing.T) {
	s := open(t)
	const places = 3
	var now, most atomic.Int32
	var all sync.WaitGroup
	for range 5 * places {
		all.Go(func() {
			place, err := s.LockBoot(t.Context(), places)
			if err != nil {
				t.Error(err)
				return
			}
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			now.Add(-1)
			place.Unlock()
		})
	}
	all.Wait()
	if m := most.Load(); m > places {
		t.Errorf("%d had a place at once, there are %d", m, places)
	}
}

// TestBootPlacesAreWaitedFor: who waits, the first and those behind it, can give
// up, and leaves nothing taken.
func TestBootPlacesAreWaitedFor(t *testing.T) {
	s := open(t)
	taken, err := s.LockBoot(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	for range 3 {
		go func() {
			_, err := s.LockBoot(ctx, 1)
			gaveUp <- err
		}()
	}
	select {
	case err := <-gaveUp:
		t.Fatalf("one did not wait: %v", err)
	default:
	}
	cancel()
	for range 3 {
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	}
	got := make(chan error)
	go func() {
		place, err := s.LockBoot(t.Context(), 1)
		place.Unlock()
		got <- err
	}()
	taken.Unlock()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	// A place beside the one that is taken is free to all who know of it.
	if taken, err = s.LockBoot(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	defer taken.Unlock()
	other, err := s.LockBoot(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	other.Unlock()
}
