package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/logfile"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantLogs() *cobra.Command {
	return a.logsVerb(&cobra.Command{
		Use:     "logs <id>",
		Short:   "Print a tenant's console, or another of its logs",
		Example: "  mvm tenant logs acme\n  mvm tenant logs acme -f --tail 20\n  mvm tenant logs acme --since 10m\n  mvm tenant logs acme --source build",
		Args:    exactArgs(1, "one tenant id"),
	}, a.onTenant)
}

func (a *app) devLogs() *cobra.Command {
	return a.logsVerb(&cobra.Command{
		Use:     "logs",
		Short:   "Print the dev microVM's console, or another of its logs",
		Example: "  mvm logs\n  mvm logs -f --tail 20\n  mvm logs --source build",
		Args:    exactArgs(0, "no arguments; mvm tenant logs prints a tenant's"),
	}, a.onDevTenant)
}

func (a *app) logsVerb(cmd *cobra.Command, on runner) *cobra.Command {
	var (
		source, since string
		raw           bool
		opts          logfile.Options
	)
	cmd.Long = cmd.Short + `, with what is kept of
older files of it.

A guest writes to its console what it likes. On a terminal, what could command
the terminal is left out; a file or pipe, and --raw, get every byte.

--since takes a length of time (90s, 2h, 3d) or a moment (2026-08-01,
"2026-08-01 10:15", 10:15, or RFC 3339), in the local time zone. mvm notes to the
second when which part of the console's and the VMM's log was written. The
build's log is printed whole if the build went on to then.`
	cmd.RunE = on("print the log of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
		var err error
		if opts.Since, err = parseSince(since, time.Now()); err != nil {
			return err
		}
		out := a.plain()
		if raw {
			out = a.Out
		}
		err = h.ReadLog(ctx, args[0], source, opts, out)
		if errors.Is(err, fs.ErrNotExist) {
			a.note("there is no %s log of %s yet", source, h.Name(args[0]))
			return nil
		}
		return err
	})
	f := cmd.Flags()
	f.StringVar(&source, "source", "console", "console, vmm, supervisor or build")
	f.StringVar(&since, "since", "", "only what was written since then: a length of time, or a moment")
	f.BoolVarP(&opts.Follow, "follow", "f", false, "go on with what is written, until interrupted")
	f.IntVar(&opts.Tail, "tail", -1, "only the last so many lines")
	f.Lookup("tail").DefValue = "0" // the help leaves out what is zero
	f.BoolVar(&raw, "raw", false, "print every byte also on a terminal")
	return cmd
}

// parseSince reads a moment, or how long ago it was.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	var days int
	if n, err := fmt.Sscanf(text, "%dd", &days); n == 1 && err == nil && days >= 0 && text == fmt.Sprintf("%dd", days) {
		return now.AddDate(0, 0, -days), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			y, m, d := now.Date()
			return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, now.Location()), nil
		}
	}
	return time.Time{}, &tenant.InputError{Msg: fmt.Sprintf("%q is neither a length of time nor a moment", text), Hint: `--since takes 90s, 2h, 3d, 10:15, 2026-08-01 or "2026-08-01 10:15"`}
}
