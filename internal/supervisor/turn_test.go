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
	word := func() chan struct{} { c := make(chan struct{}, 1); c <- struct{}{}; return c }
	looks := 0
	always := func() (bool, error) { looks++; return true, nil }
	for name, c := range map[string]struct {
		ended, answered chan struct{}
		busy            func() (bool, error)
		looks           int // until its turn ends
		over            bool
	}{
		"it answers":               {nil, word(), always, 0, true},
		"it ends":                  {word(), nil, always, 0, true},
		"its process ends":         {nil, nil, func() (bool, error) { looks++; return false, errors.New("no such process") }, 1, true},
		"it has nothing to do":     {nil, nil, func() (bool, error) { looks++; return false, nil }, quietLooks, true},
		"it is idle after a while": {nil, nil, func() (bool, error) { looks++; return looks <= 40, nil }, 40 + quietLooks, true},
		"it is busy for ever":      {nil, nil, always, 99, false},
		"it never rests for long":  {nil, nil, func() (bool, error) { looks++; return looks%quietLooks == 0, nil }, 99, false},
	} {
		looks = 0
		ctx, cancel := context.WithTimeout(t.Context(), 100*bootLook-time.Millisecond)
		if over := booted(ctx, c.ended, c.answered, c.busy); over != c.over || looks != c.looks {
			t.Errorf("%s: its turn is over: %t after %d looks, want %t after %d", name, over, looks, c.over, c.looks)
		}
		cancel()
	}
}
