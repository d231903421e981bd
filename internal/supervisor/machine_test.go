package supervisor

import (
	"testing"
	"time"

	"github.com/auser/mvm/internal/tenant"
)

var phases = tenant.Phases

func TestEveryPhaseCanEndAndIsReachable(t *testing.T) {
	reached := map[tenant.Phase]bool{tenant.Created: true}
	for _, p := range phases {
		if len(transitions[p]) == 0 {
			t.Errorf("%s is a dead end", p)
		}
		for _, to := range transitions[p] {
			reached[to] = true
		}
	}
	for _, p := range phases {
		if !reached[p] {
			t.Errorf("%s is never reached", p)
		}
	}
	if _, err := next(tenant.Stopped, evUp); err == nil {
		t.Error("a stopped tenant came up without a start")
	}
}

// TestALostWriteIsNoDeadEnd: what a supervisor goes on with after it could not
// write where it stood finds its way from there.
func TestALostWriteIsNoDeadEnd(t *testing.T) {
	for _, p := range []tenant.Phase{tenant.Starting, tenant.Running, tenant.Paused, tenant.Restarting} {
		for _, ev := range []event{evStart, evEnded, evStop, evDown, evFailed} {
			if _, err := next(p, ev); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDecide(t *testing.T) {
	const no, onFailure, always = "no", "on-failure", "always"
	for _, c := range []struct {
		policy   string
		rebooted bool
		inARow   int
		lately   int
		again    bool
		after    time.Duration
	}{
		{no, false, 0, 0, false, 0},
		{no, true, 0, 0, true, 0},
		{no, true, 3, 3, true, 8 * time.Second},
		{no, true, 10, 10, false, 0},
		{onFailure, false, 0, 0, true, time.Second},
		{onFailure, false, 4, 4, true, 16 * time.Second},
		{onFailure, false, 5, 5, false, 0},
		{"on-failure:2", false, 1, 1, true, 2 * time.Second},
		{"on-failure:2", false, 2, 2, false, 0},
		{always, false, 8, 8, true, 256 * time.Second},
		{always, false, 9, 9, true, 5 * time.Minute},
		{always, false, 10, 10, false, 0},
		// It ran for longer than the window, each time.
		{no, true, 0, 2, true, 0},
		{no, true, 0, 3, true, 8 * time.Second},
		{no, true, 0, 1000, true, 5 * time.Minute},
		{always, false, 0, 1000, true, 5 * time.Minute},
		{"unless-stopped", false, 0, 0, true, time.Second},
	} {
		policy, err := tenant.ParseRestart(c.policy)
		if err != nil {
			t.Fatal(err)
		}
		// How long it ran by the clock, even less than no time, makes no odds.
		for _, ran := range []time.Duration{0, -48 * time.Hour, 48 * time.Hour} {
			got := decide(policy, ending{rebooted: c.rebooted, ran: ran, reason: "it ended"}, series{c.inARow, c.lately})
			if got.again != c.again || got.after != c.after || got.why == "" {
				t.Errorf("decide(%s, rebooted %v, ran %s, %d in a row) = %+v, want again %v after %v", c.policy, c.rebooted, ran, c.inARow, got, c.again, c.after)
			}
		}
	}
}

// TestRestartsOfADay: how often a guest starts in a day that reboots after each
// run of the same length, and whether it goes on.
func TestRestartsOfADay(t *testing.T) {
	const window, day = time.Minute, 24 * time.Hour
	for ran, c := range map[time.Duration]struct {
		most int
		on   bool
	}{
		time.Second:      {11, false}, // a loop that ends
		61 * time.Second: {260, true}, // held back
		9 * time.Minute:  {110, true}, // less so, for what it is
		11 * time.Minute: {131, true}, // not at all
	} {
		starts, on := 1, true
		s := series{}
		for now := ran; now < day && on; now += ran {
			s = s.after(ran, window)
			v := decide(tenant.Restart{Mode: tenant.RestartAlways}, ending{rebooted: true, ran: ran}, s)
			if on = v.again; on {
				starts, s, now = starts+1, s.next(), now+v.after
			}
			if ran > calm*window && v.after > 0 {
				t.Errorf("after %s it waits for %s", ran, v.after)
			}
		}
		if on != c.on || starts > c.most || starts < c.most*9/10 {
			t.Errorf("rebooting after %s it starts %d times a day, and goes on: %t; want %d at most, %t", ran, starts, on, c.most, c.on)
		}
	}
}
