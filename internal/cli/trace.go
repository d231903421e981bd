package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/userfile"
)

// traceEvent is one of Chrome's trace event format, which ui.perfetto.dev and
// chrome://tracing open. Times are in microseconds.
type traceEvent struct {
	Name  string            `json:"name"`
	Phase string            `json:"ph"` // X: a whole step; M: a process's name
	TS    float64           `json:"ts"`
	Dur   float64           `json:"dur"`
	PID   int               `json:"pid"`
	TID   int               `json:"tid"`
	Args  map[string]string `json:"args,omitempty"`
}

// traced does something and writes how long each of its steps took to a file,
// also where it fails. Without a path it does it alone.
func traced(ctx context.Context, path, what string, do func(context.Context) error) (err error) {
	if path == "" {
		return do(ctx)
	}
	f, err := userfile.Create(path) // before anything is started
	if err != nil {
		return fmt.Errorf("cannot write the trace: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var spans []lifecycle.Span
	failed := do(lifecycle.WithTrace(ctx, func(s lifecycle.Span) { spans = append(spans, s) }))
	if err := writeTrace(f, what, spans); err != nil {
		return errors.Join(failed, fmt.Errorf("cannot write the trace: %w", err))
	}
	return failed
}

// writeTrace writes spans such that the command and the supervisor are two
// processes, with times since the first span's start.
func writeTrace(w io.Writer, what string, spans []lifecycle.Span) error {
	const command, supervisor = 1, 2
	events := []traceEvent{
		{Name: "process_name", Phase: "M", PID: command, TID: 1, Args: map[string]string{"name": what}},
		{Name: "process_name", Phase: "M", PID: supervisor, TID: 1, Args: map[string]string{"name": "supervisor"}},
	}
	// Outer steps come before the inner ones that begin with them.
	slices.SortStableFunc(spans, func(a, b lifecycle.Span) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(b.Took, a.Took))
	})
	for _, s := range spans {
		pid := command
		if s.Supervisor {
			pid = supervisor
		}
		events = append(events, traceEvent{
			Name: s.Name, Phase: "X", PID: pid, TID: 1,
			TS: microseconds(s.Start.Sub(spans[0].Start)), Dur: microseconds(s.Took),
		})
	}
	return json.NewEncoder(w).Encode(map[string]any{"traceEvents": events, "displayTimeUnit": "ms"})
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
