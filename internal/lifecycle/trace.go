package lifecycle

import (
	"context"
	"time"

	"github.com/auser/mvm/internal/supervisor"
)

// Span is one step of an act, for those who look where the time goes.
type Span struct {
	Name       string
	Supervisor bool // it was done there, not in this process
	Start      time.Time
	Took       time.Duration
}

type traceKey struct{}

// WithTrace has the steps of what is done under the context told to span, as
// they end.
func WithTrace(ctx context.Context, span func(Span)) context.Context {
	return context.WithValue(ctx, traceKey{}, span)
}

// trace tells of a step of this process's that ends now.
func trace(ctx context.Context, name string, began time.Time) {
	if span, ok := ctx.Value(traceKey{}).(func(Span)); ok {
		span(Span{Name: name, Start: began, Took: time.Since(began)})
	}
}

// traced also traces the supervisor's steps.
func traced(ctx context.Context, progress func(supervisor.Progress)) func(supervisor.Progress) {
	span, ok := ctx.Value(traceKey{}).(func(Span))
	if !ok {
		return progress
	}
	return func(p supervisor.Progress) {
		if p.Step != "" {
			span(Span{Name: p.Step, Supervisor: true, Start: p.Start, Took: p.Took})
		}
		progress(p)
	}
}
