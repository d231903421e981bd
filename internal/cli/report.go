package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/upgrade"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitState       = 4
	exitHost        = 5
	exitInterrupted = 130
)

// remoteExit hands on the exit code of a command in the guest.
type remoteExit struct{ code int }

func (e *remoteExit) Error() string { return fmt.Sprintf("the remote command ended with %d", e.code) }

// report prints err and its hint and says which exit code it means. It is the
// only place that maps errors to exit codes.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var remote *remoteExit
	if errors.As(err, &remote) {
		return remote.code
	}
	code, hint := classify(err)
	if ctx.Err() != nil || run.Interrupted(err) {
		code, hint = exitInterrupted, "nothing is lost: the same command goes on from here"
	}
	var failed *build.Error
	if errors.As(err, &failed) && failed.Log != "" {
		a.say("%s", failed.Log)
	}
	if near := a.nearTenant(err); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	a.say("mvm: %v", err)
	if hint != "" {
		a.say("hint: %s", hint)
	}
	return code
}

func classify(err error) (code int, hint string) {
	var (
		usage   *usageError
		input   *tenant.InputError
		busy    *store.BusyError
		advised interface{ Advice() string }
		life    *lifecycle.Error
		built   *build.Error
		start   *supervisor.StartError
	)
	switch {
	case errors.As(err, &usage):
		return exitUsage, usage.hint
	case errors.As(err, &input):
		return exitUsage, input.Hint
	case errors.Is(err, store.ErrNotFound):
		return exitNotFound, "mvm tenant list shows the tenants"
	case errors.As(err, &busy):
		return exitState, "try again later, or give it longer with --wait 10m"
	case errors.As(err, &life):
		return kindCode(life), life.Hint
	case errors.As(err, &built):
		return kindCode(built), built.Hint
	case errors.As(err, &start):
		return exitFailed, start.Hint
	case errors.As(err, &advised):
		return exitFailed, advised.Advice()
	}
	return exitFailed, upgrade.Hint(err)
}

func kindCode(err error) int {
	switch {
	case errors.Is(err, build.ErrInput):
		return exitUsage
	case errors.Is(err, lifecycle.ErrState):
		return exitState
	case errors.Is(err, lifecycle.ErrHost), errors.Is(err, build.ErrHost):
		return exitHost
	}
	return exitFailed
}
