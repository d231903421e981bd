package undo

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestRunsInReverseUnderItsOwnContextAndKeepsGoing(t *testing.T) {
	var got []string
	var u Stack
	u.Push("a", func(context.Context) error { got = append(got, "a"); return nil })
	u.Push("b", func(context.Context) error { got = append(got, "b"); return errors.New("stuck") })
	u.Push("c", func(ctx context.Context) error { got = append(got, "c"); return ctx.Err() })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	first := errors.New("first")
	err := first
	u.Run(ctx, &err)
	if !slices.Equal(got, []string{"c", "b", "a"}) {
		t.Errorf("order = %v", got)
	}
	if !errors.Is(err, first) || err.Error() != "first\ncannot b: stuck" {
		t.Errorf("err = %q", err)
	}
}

func TestClearedStackDoesNothing(t *testing.T) {
	var u Stack
	u.Push("a", func(context.Context) error { t.Error("ran"); return nil })
	u.Clear()
	var err error
	u.Run(t.Context(), &err)
	if err != nil {
		t.Error(err)
	}
}
