package supervisor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestBooted(t *testing.T) { synctest.Test(t, booting) }

func booting(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	looks := 0
	always := func() (bool, error) { looks++; return true, nil }
	never := func() (bool, error) { looks++; return false, nil }
	dead := func() (bool, error) { looks++; return false, errors.New("no such process") }
	// now and then, but never often enough in a row
	restless := func() (bool, error) { looks++; return looks%quietLooks == 0, nil }
	for name, c := range map[string]struct {
		ended   chan struct{}
		answers int // at which attempt; 0: never
		busy    func() (bool, error)
		looks   int // until the turn ends; 0: it does not
	}{
		"it answers":                {nil, 3, always, 2},
		"it answers, and is idle":   {nil, 1, never, 0},
		"it has nothing to do":      {nil, 0, never, quietLooks},
		"it is busy for ever":       {nil, 0, always, 0},
		"it is idle only in part":   {nil, 0, restless, 0},
		"it ends":                   {ended, 0, always, 1},
		"its process ends":          {nil, 0, dead, 1},
		"it is idle after a while":  {nil, 0, func() (bool, error) { looks++; return looks <= 4, nil }, 4 + quietLooks},
		"it answers at last, later": {nil, 4 * quietLooks, restless, 4*quietLooks - 1},
	} {
		looks = 0
		ctx, cancel := context.WithCancel(t.Context())
		attempts := 0
		answers := func(patience time.Duration) bool {
			if patience < bootLook {
				t.Errorf("%s: an attempt is given only %s", name, patience)
			}
			attempts++
			if c.looks == 0 && attempts == 3*quietLooks { // enough to see that it goes on
				cancel()
			}
			return attempts == c.answers
		}
		ok := booted(ctx, c.ended, answers, c.busy)
		cancel()
		holds := c.looks == 0 && c.answers == 0
		if ok == holds || !holds && looks != c.looks {
			t.Errorf("%s: booted is %t after %d looks, want %t after %d", name, ok, looks, !holds, c.looks)
		}
	}
}
