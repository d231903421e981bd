// Package undo is a stack of acts that take back what was done so far.
//
//	var u undo.Stack
//	defer u.Run(ctx, &err)
//	…
//	u.Push("remove tap", func(ctx context.Context) error { … })
//	…
//	u.Clear() // success: nothing is taken back
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/crash"
)

// Deadline bounds the whole unwinding. It runs under a context of its own,
// because the usual reason for unwinding is that the caller's was cancelled.
const Deadline = 30 * time.Second

type act struct {
	what string
	fn   func(context.Context) error
}

// Stack holds what would have to be undone, last in, first out. The zero
// value is ready for use; it is not safe for concurrent use.
type Stack struct{ acts []act }

// Push adds an act. what completes the sentence "cannot …".
func (s *Stack) Push(what string, fn func(context.Context) error) {
	s.acts = append(s.acts, act{what, fn})
}

// Clear forgets every act: what was done stays.
func (s *Stack) Clear() { s.acts = nil }

// Run takes everything back in reverse order, whatever fails on the way, and
// joins the failures to *errp.
func (s *Stack) Run(ctx context.Context, errp *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Deadline)
	defer cancel()
	for len(s.acts) > 0 {
		last := s.acts[len(s.acts)-1]
		s.acts = s.acts[:len(s.acts)-1]
		if err := last.fn(ctx); err != nil {
			*errp = errors.Join(*errp, fmt.Errorf("cannot %s: %w", last.what, err))
		}
		crash.Point("undo/" + last.what)
	}
}
