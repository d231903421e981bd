// Package lifecycle joins the rooms: create, build, run, stop, destroy and
// reconcile, each as visible ordered steps that can be killed anywhere and run
// again.
//
// It prints nothing. What a person should know while a step goes on is handed
// to Host.Say; what they asked for comes back as plain values.
package lifecycle

import (
	"cmp"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// Error is a failure that comes with advice. Its kind is ErrState or ErrHost;
// bad input is a *tenant.InputError and a missing tenant is store.ErrNotFound.
type Error = fault.Error

// What an error is about, for errors.Is.
var (
	ErrState = fault.ErrState // the tenant is not in a state for that
	ErrHost  = fault.ErrHost
)

// Host is one state directory and the settings that hold for it.
type Host struct {
	Store  *store.Store
	Config config.Config
	// Say tells a person what is being done. It must not block for long.
	Say func(format string, args ...any)
	// Parent is the tenants' host where this one is the dev microVM's own:
	// their machines share what the hardware has to give.
	Parent *Host
	// Wait is how long to wait for another command on the same tenant.
	Wait time.Duration
	// BuildWait is how long a build waits for another one of the same tenant.
	BuildWait time.Duration
}

// Open opens the state directory and reads its settings.
func Open(root string) (*Host, error) {
	s, err := store.Open(root)
	if err != nil {
		return nil, err
	}
	c, err := config.Load(s.ConfigFile())
	if err != nil {
		return nil, err
	}
	c.Limits.UIDBase = cmp.Or(c.Limits.UIDBase, tenant.UIDBase(s.Scope))
	return &Host{
		Store:  s,
		Config: c,
		Say:    func(string, ...any) {},
		Wait:   time.Duration(c.Limits.LockTimeoutSec) * time.Second,
		// A build that runs ends at its own time limit at the latest.
		BuildWait: time.Duration(c.Build.TimeoutMin+1) * time.Minute,
	}, nil
}

// Name is what a person calls one of this host's: the dev microVM is no tenant.
func (h *Host) Name(id string) string {
	if h.Parent != nil {
		return "the dev microVM"
	}
	return "tenant " + id
}

// Command is what a person types to do something with it, for a hint. The dev
// microVM is built, changed and run by one command.
func (h *Host) Command(verb, id string) string {
	if h.Parent != nil {
		switch verb {
		case "run", "build", "set":
			verb = "start"
		case "show":
			verb = "status"
		}
		return "mvm " + verb
	}
	return "mvm tenant " + verb + " " + id
}

// record writes one act to the tenant's audit record, or with an empty id to
// the host's, and hands err on.
//
// An act that is found done when it is given again is recorded before the step
// that makes it so. Killed in between it is recorded twice, and never not at
// all; should that step fail, recordFailure says so after it.
func (h *Host) record(id, act string, detail map[string]any, err error) error {
	return audit.Record(h.Store.AuditFile(id), id, act, detail, err)
}

// recordFailure is record for an act whose success is on record already.
func (h *Host) recordFailure(id, act string, detail map[string]any, err error) error {
	if err == nil {
		return nil
	}
	return h.record(id, act, detail, err)
}

// MustExist returns store.ErrNotFound, naming the tenant, where there is none.
func (h *Host) MustExist(id string) error {
	if err := tenant.CheckID(id); err != nil {
		return err
	}
	if !h.Store.Exists(id) {
		return fmt.Errorf("%w: %s", store.ErrNotFound, id)
	}
	return nil
}
