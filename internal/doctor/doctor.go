// Package doctor looks at a host and says what mvm needs of it, what a
// production host should have, and how to mend what is missing.
//
// It owns the checks and their advice. It changes nothing unless it is asked
// to, and then only what disturbs nobody else on the host.
package doctor

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/auser/mvm/internal/lifecycle"
)

// A Check looks at one thing.
type Check struct {
	Name string
	Run  func(ctx context.Context) Finding
	Fix  func(ctx context.Context) error // mends what was found, safely; nil where nothing does
}

// Level is how a finding is to be taken.
type Level string

const (
	OK      Level = "ok"
	Note    Level = "note"    // worth knowing, nothing to do
	Warning Level = "warning" // works, but is not how a production host should be
	Failure Level = "failure" // mvm cannot work so
)

// Finding is what a check saw.
type Finding struct {
	Level Level  `json:"level"`         // ok, note, warning or failure
	Found string `json:"found"`         // what was seen
	Fix   string `json:"fix,omitempty"` // what to do about it
}

func ok(format string, args ...any) Finding { return Finding{OK, fmt.Sprintf(format, args...), ""} }
func note(format string, args ...any) Finding {
	return Finding{Note, fmt.Sprintf(format, args...), ""}
}

// advice is a note that comes with what may be done.
func advice(fix, format string, args ...any) Finding {
	return Finding{Note, fmt.Sprintf(format, args...), fix}
}
func warning(fix, format string, args ...any) Finding {
	return Finding{Warning, fmt.Sprintf(format, args...), fix}
}
func failure(fix, format string, args ...any) Finding {
	return Finding{Failure, fmt.Sprintf(format, args...), fix}
}

// Result is one line of the report.
type Result struct {
	Check string `json:"check"`
	Finding
	Fixable bool   `json:"fixable"`             // doctor --fix can do it
	Fixed   bool   `json:"fixed,omitempty"`     // and has
	Error   string `json:"fix_error,omitempty"` // or has failed to
}

// timeout bounds one check: a daemon that hangs is a finding, not a reason to
// hang, too.
const timeout = 30 * time.Second

// Run makes all checks, in order. With fix, what can be mended safely is, and
// looked at again.
func Run(ctx context.Context, checks []Check, fix bool) []Result {
	results := make([]Result, 0, len(checks))
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		results = append(results, look(ctx, c, fix))
	}
	return results
}

func look(ctx context.Context, c Check, fix bool) Result {
	run := func() Finding {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return c.Run(ctx)
	}
	r := Result{Check: c.Name, Finding: run()}
	r.Fixable = c.Fix != nil && (r.Level == Warning || r.Level == Failure)
	if !r.Fixable || !fix {
		return r
	}
	if err := c.Fix(ctx); err != nil { // takes its time: it may be a guest that ends
		r.Error = err.Error()
		return r
	}
	r.Finding = run()
	r.Fixed = r.Level == OK || r.Level == Note
	return r
}

// Worst is the gravest level among results.
func Worst(results []Result) Level {
	order := map[Level]int{OK: 0, Note: 1, Warning: 2, Failure: 3}
	worst := OK
	for _, r := range results {
		if order[r.Level] > order[worst] {
			worst = r.Level
		}
	}
	return worst
}

// Checks are all there are for the host h.
func Checks(h *lifecycle.Host) []Check {
	return append(needs(h), system{"/", runtime.GOARCH}.checks()...)
}
