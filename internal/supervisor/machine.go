package supervisor

import (
	"fmt"
	"time"

	"github.com/auser/mvm/internal/tenant"
)

// event is what moves a tenant from one phase to another.
type event string

const (
	evStart  event = "start"   // somebody wants it to run
	evUp     event = "up"      // the VMM runs
	evFailed event = "failed"  // it could not be started, or ended badly, and will not be tried again
	evEnded  event = "ended"   // the VMM ended and will be started again
	evPause  event = "pause"   // its vCPUs were stopped
	evResume event = "resume"  // and go on
	evStop   event = "stop"    // somebody wants it to stop
	evDown   event = "stopped" // everything with the VM's lifetime is gone
)

// transitions is every move that exists. As long as a supervisor lives nearly
// every event may meet every phase, because the write in between may have failed
// for want of disk space: starting may start, and restarting be down.
var transitions = map[tenant.Phase]map[event]tenant.Phase{
	tenant.Created:    {evStart: tenant.Starting},
	tenant.Stopped:    {evStart: tenant.Starting},
	tenant.Failed:     {evStart: tenant.Starting},
	tenant.Starting:   {evStart: tenant.Starting, evUp: tenant.Running, evFailed: tenant.Failed, evEnded: tenant.Restarting, evStop: tenant.Stopping, evDown: tenant.Stopped},
	tenant.Running:    {evStart: tenant.Starting, evEnded: tenant.Restarting, evFailed: tenant.Failed, evStop: tenant.Stopping, evDown: tenant.Stopped, evPause: tenant.Paused, evResume: tenant.Running},
	tenant.Paused:     {evStart: tenant.Starting, evEnded: tenant.Restarting, evFailed: tenant.Failed, evStop: tenant.Stopping, evDown: tenant.Stopped, evPause: tenant.Paused, evResume: tenant.Running},
	tenant.Restarting: {evStart: tenant.Starting, evEnded: tenant.Restarting, evStop: tenant.Stopping, evFailed: tenant.Failed, evDown: tenant.Stopped},
	tenant.Stopping:   {evDown: tenant.Stopped, evFailed: tenant.Failed},
}

// next is the phase that ev leads to.
func next(from tenant.Phase, ev event) (tenant.Phase, error) {
	to, ok := transitions[from][ev]
	if !ok {
		return from, fmt.Errorf("a tenant that is %s cannot take %q", from, ev)
	}
	return to, nil
}

// ending is how a VMM ended while nobody had asked it to.
type ending struct {
	rebooted bool          // the guest ended by itself
	ran      time.Duration // since the VMM was up
	reason   string
}

const (
	maxRestarts   = 10 // in a row, whatever the policy: a crash loop ends and says so
	maxFailures   = 5  // in a row, with on-failure and no number
	firstBackoff  = time.Second
	longestPause  = 5 * time.Minute
	rebootsAtOnce = 3  // this many guest reboots, not long after one another, are not held back
	calm          = 10 // a run of so many restart windows ends the growth of pauses
)

// verdict is what follows an ending.
type verdict struct {
	again bool
	after time.Duration
	why   string
}

// series counts restarts: those in a row, each after a run that was shorter than
// the restart window, and those since a run that lasted calm times as long. A
// guest that ends every other minute, for years, is no crash loop, but need not
// fill the record of what ran.
type series struct{ inARow, lately int }

// after is what a run of this length leaves of the series.
func (s series) after(ran, window time.Duration) series {
	if ran > window {
		s.inARow = 0
	}
	if ran > calm*window {
		s.lately = 0
	}
	return s
}

func (s series) next() series { return series{s.inARow + 1, s.lately + 1} }

// decide applies the restart policy.
func decide(policy tenant.Restart, e ending, s series) verdict {
	limit := maxRestarts
	switch {
	case e.rebooted:
		// A reboot is the guest's own right, whatever the policy says.
	case policy.Mode == tenant.RestartNo:
		return verdict{why: e.reason}
	case policy.Mode == tenant.RestartOnFailure && policy.Max > 0:
		limit = policy.Max
	case policy.Mode == tenant.RestartOnFailure:
		limit = maxFailures
	}
	if s.inARow >= limit {
		return verdict{why: fmt.Sprintf("gave up after %d restarts in a row; the last one: %s", s.inARow, e.reason)}
	}
	if e.rebooted && s.lately < rebootsAtOnce {
		return verdict{again: true, why: e.reason}
	}
	return verdict{again: true, after: min(firstBackoff<<min(s.lately, 16), longestPause), why: e.reason}
}
