package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

// host opens the state directory for a verb. Whatever is being done is told on
// standard error.
func (a *app) host() (*lifecycle.Host, error) {
	h, err := lifecycle.Open(a.root)
	if err != nil {
		return nil, err
	}
	h.Say = a.note
	return h, nil
}

// patientHost is host for a verb that locks tenants: it minds --wait.
func (a *app) patientHost(cmd *cobra.Command) (*lifecycle.Host, error) {
	h, err := a.host()
	if f := cmd.Flags().Lookup("wait"); err == nil && f != nil && f.Changed {
		h.Wait, err = cmd.Flags().GetDuration("wait")
	}
	return h, err
}

// onHost is the body of a verb that works on this host: it opens it first.
func (a *app) onHost(do func(ctx context.Context, h *lifecycle.Host, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		h, err := a.host()
		if err != nil {
			return err
		}
		return do(cmd.Context(), h, args)
	}
}

// runner makes the body of a verb of what it does with one tenant, whose id is
// the first of args.
type runner func(what string, do func(ctx context.Context, h *lifecycle.Host, args []string) error) func(*cobra.Command, []string) error

// onTenant is the body of a verb that does one thing with one tenant, whose id
// is the first argument: it opens the host, minds --wait and words the error.
func (a *app) onTenant(what string, do func(ctx context.Context, h *lifecycle.Host, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		h, err := a.patientHost(cmd)
		if err != nil {
			return err
		}
		if err := do(cmd.Context(), h, args); err != nil {
			return cannot(what, args[0], err)
		}
		return nil
	}
}

// cannot says of which tenant err is.
func cannot(what, id string, err error) error {
	return fmt.Errorf("cannot %s tenant %s: %w", what, idGiven(id), err)
}

// idGiven is a tenant's id; what is none is quoted, and as long as one at most.
func idGiven(id string) string {
	switch {
	case tenant.CheckID(id) == nil:
		return id
	case len(id) > tenant.MaxID:
		return strconv.Quote(strings.ToValidUTF8(id[:tenant.MaxID], "") + "…")
	}
	return strconv.Quote(id)
}

// waitFlag adds --wait, which verbs that lock a tenant share.
func waitFlag(cmd *cobra.Command) {
	cmd.Flags().Duration("wait", 0, "how long to wait for another command on the same tenant (default: limits.lock_timeout_sec)")
}

// waitFlags adds --wait to the verbs of a group but the one that only looks.
func waitFlags(group *cobra.Command, looks string) {
	for _, verb := range group.Commands() {
		if verb.Name() != looks {
			waitFlag(verb)
		}
	}
}
