package firewall

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestWholeListsAnew: what changed meanwhile is listed once more, but not for
// ever, and another error is none to try again after.
func TestWholeListsAnew(t *testing.T) {
	other := errors.New("another error")
	for _, c := range []struct {
		answers []error // the last one again and again
		want    error
		calls   int
	}{
		{[]error{nil}, nil, 1},
		{[]error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, nil, 3},
		{[]error{netlink.ErrDumpInterrupted, other}, other, 2},
		{[]error{netlink.ErrDumpInterrupted}, netlink.ErrDumpInterrupted, 20},
	} {
		calls := 0
		_, err := Whole(func() ([]int, error) {
			calls++
			return nil, c.answers[min(calls, len(c.answers))-1]
		})
		if !errors.Is(err, c.want) || calls != c.calls {
			t.Errorf("%v: %v after %d lists, want %v after %d", c.answers, err, calls, c.want, c.calls)
		}
	}
}
