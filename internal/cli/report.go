package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/store"
)

// report prints err and its hint and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	var remote *fault.Exit
	if errors.As(err, &remote) {
		return remote.Code
	}
	code, hint := fault.Code(err), a.hint(err)
	if ctx.Err() != nil || run.Interrupted(err) {
		code, hint = fault.Interrupted, "nothing is lost: the same command goes on from here"
	}
	a.tell(err, hint)
	return code
}

// tell prints err, with the last words of a program that failed before it and
// the hint after it.
func (a *app) tell(err error, hint string) {
	var failed *fault.Error
	if errors.As(err, &failed) && failed.Log != "" {
		a.say("%s", failed.Log)
	}
	a.say("mvm: %v", err)
	if hint != "" {
		a.say("hint: %s", hint)
	}
}

// hint is the advice that comes with an error, or what there is to say to
// anybody who meets it.
func (a *app) hint(err error) string {
	switch near := a.nearTenant(err); {
	case near != "":
		return fmt.Sprintf("did you mean %s?", near)
	case errors.Is(err, store.ErrNotFound):
		return "mvm tenant list shows the tenants"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return cmp.Or(fault.Hint(err), "run it as root, for example with sudo")
	case errors.Is(err, syscall.ENOSPC):
		return cmp.Or(fault.Hint(err), "make room: mvm gc removes what no tenant uses, mvm retained list shows volumes that were destroyed and kept")
	case errors.Is(err, ssh.ErrConnection):
		return cmp.Or(fault.Hint(err), "the guest may hang, or still be starting: its console tells (logs)")
	}
	return fault.Hint(err)
}
