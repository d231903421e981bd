package supervisor

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// Emulated guests take turns to boot. Each needs a CPU all the time, and an x86
// kernel that does not get one while it measures its timer, once and for a
// tenth of a second, runs with a wrong timer or hangs. One after the other, all
// are up as soon as side by side, and most of them much sooner.

// ErrStopped means that the tenant was stopped before it was its turn.
var ErrStopped = errors.New("it was stopped while it waited for its turn to boot")

const (
	// turnGrace is how long a turn may take to come before it is a wait that
	// somebody should know of.
	turnGrace = 50 * time.Millisecond
	// longestTurn ends the turn of a guest that works on and on and does not
	// answer: it boots very slowly, or never answers.
	longestTurn = 30 * time.Second
	// bootLook is how often a guest that boots is looked at, and quietLooks how
	// often in a row it has to be found idle.
	bootLook   = 50 * time.Millisecond
	quietLooks = 5
)

// awaitTurn returns with a place among the guests that boot; on the kvm tier
// without one, as none is needed there. Nothing is made yet that would have to
// be taken away when somebody wants the tenant stopped meanwhile.
func (s *supervisor) awaitTurn(ctx context.Context, terminate <-chan os.Signal) (turn *store.Lock, stop *stopRequest, err error) {
	if s.config.Tier != config.TierSoftware {
		return nil, nil, nil
	}
	began := time.Now()
	places := s.config.Limits.BootsAtOnce
	if places == 0 {
		places = runtime.NumCPU()
	}
	waiting, giveUp := context.WithCancel(ctx)
	done := make(chan struct{})
	var place *store.Lock
	var failed error
	go func() {
		defer close(done)
		place, failed = s.store.LockBoot(waiting, places)
	}()
	defer func() {
		giveUp()
		if <-done; turn == nil {
			place.Unlock()
		}
	}()
	grace := time.NewTimer(turnGrace)
	defer grace.Stop()
	for {
		select {
		case <-done:
			s.did("turn", began)
			s.seat.take(absence{why: "it is starting"})
			return place, nil, failed
		case <-grace.C:
			s.tell(Progress{Queued: true})
			s.seat.take(absence{why: "it waits for its turn to boot"})
			if err := s.store.UpdateState(s.t.ID, func(st *tenant.State) error { st.Reason = "it waits for its turn to boot"; return nil }); err != nil {
				return nil, nil, err
			}
			crash.Point("supervisor/queued")
		case req := <-s.stops:
			return nil, &req, nil
		case <-terminate:
			req := s.hostStops()
			return nil, &req, nil
		}
	}
}

// endTurn gives the place back when the guest has booted.
func (s *supervisor) endTurn(ctx context.Context, l *launch, turn *store.Lock) {
	defer turn.Unlock()
	ctx, cancel := context.WithTimeout(ctx, longestTurn)
	defer cancel()
	if !booted(ctx, l.vm.Done(), s.answered, l.vm.Process().ID().Busy) {
		s.log.Warn("the guest is busy and nobody knows it to answer: others may boot", "after", longestTurn)
	}
}

// booted returns when somebody knows that the guest answers, when it has nothing
// to do, or has ended, and is false if ctx ends before that. A kernel is busy
// until its timer works: before, it has nothing that could wake it. To knock at
// the guest's door here would make it slower.
func booted(ctx context.Context, ended, answered <-chan struct{}, busy func() (bool, error)) bool {
	look := time.NewTicker(bootLook)
	defer look.Stop()
	for quiet := 0; quiet < quietLooks; {
		select {
		case <-answered:
			return true
		case <-ended:
			return true
		case <-ctx.Done():
			return false
		case <-look.C:
		}
		is, err := busy()
		if err != nil {
			return true // it has ended
		}
		quiet++
		if is {
			quiet = 0
		}
	}
	return true
}

// handleAnswers takes the word of one who has talked to the guest.
func (s *supervisor) handleAnswers(conn net.Conn) {
	select {
	case s.answered <- struct{}{}:
	default: // it is known
	}
	reply(conn, Reply{Done: true})
}
