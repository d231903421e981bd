package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

// tenantsVerb is a verb that does the same with each of the tenants named.
type tenantsVerb struct {
	what string // as in: cannot <what> tenant acme
	// first refuses all of it, or asks.
	first func(ctx context.Context, h *lifecycle.Host, ids []string) error
	// do does it with one, and returns the line that says so.
	do func(ctx context.Context, h *lifecycle.Host, id string) (string, error)
	// all are those that --all stands for; nil: the verb has no such flag.
	all func(h *lifecycle.Host) ([]string, error)
}

// severalHelp is the end of such a verb's help.
const severalHelp = `

Several tenants are worked on side by side, --parallel of them at once, each as
if it were the only one. A wrong id among them is refused before anything is
done. One that fails does not keep the others from being done; the exit code is
then that of the first one named that failed.`

// onTenants makes cmd the verb v.
func (a *app) onTenants(cmd *cobra.Command, v tenantsVerb) {
	var (
		all      bool
		parallel int
	)
	cmd.Long = cmp.Or(cmd.Long, cmd.Short+".") + severalHelp
	takes := "one or more tenant ids"
	if v.all != nil {
		takes += ", or --all"
		cmd.Flags().BoolVar(&all, "all", false, "every tenant that runs, or that went down without being stopped")
	}
	parallelFlag(cmd, &parallel)
	waitFlag(cmd)
	cmd.Args = func(cmd *cobra.Command, ids []string) error {
		if all == (len(ids) > 0) {
			return &tenant.InputError{Msg: fmt.Sprintf("%s takes %s, got %s", cmd.CommandPath(), takes, got(ids, all)), Hint: fmt.Sprintf("see %s --help", cmd.CommandPath())}
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		h, err := a.patientHost(cmd)
		if err != nil {
			return err
		}
		if all {
			if ids, err = v.all(h); err != nil {
				return fmt.Errorf("cannot %s all tenants: %w", v.what, err)
			}
			// One that is destroyed meanwhile keeps none of the others from it.
			v.first = func(context.Context, *lifecycle.Host, []string) error { return nil }
		}
		switch ids = once(ids); len(ids) {
		case 0:
			a.note("no tenant runs")
			return nil
		case 1:
			return a.withOne(cmd.Context(), h, v, ids[0])
		}
		return a.withSeveral(cmd.Context(), h, v, ids, parallel)
	}
}

// withOne does it with one tenant alone.
func (a *app) withOne(ctx context.Context, h *lifecycle.Host, v tenantsVerb, id string) error {
	err := v.first(ctx, h, []string{id})
	if err == nil {
		var done string
		if done, err = v.do(ctx, h, id); err == nil {
			a.result("%s", done)
			return nil
		}
	}
	return cannot(v.what, id, err)
}

// withSeveral does it with some tenants, limit of them at once, and tells of
// each as it ends. What is said meanwhile names its tenant.
func (a *app) withSeveral(ctx context.Context, h *lifecycle.Host, v tenantsVerb, ids []string, limit int) error {
	if err := v.first(ctx, h, ids); err != nil {
		return fmt.Errorf("cannot %s %d tenants: %w", v.what, len(ids), err)
	}
	a.several = true
	var (
		all  errgroup.Group
		mu   sync.Mutex // the lines about one tenant stay together
		errs = make([]error, len(ids))
	)
	all.SetLimit(limit)
	for i, id := range ids {
		all.Go(func() error {
			if errs[i] = ctx.Err(); errs[i] != nil {
				return nil // it was not begun
			}
			one := *h
			one.Say = func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				a.note("  %s: %s", id, strings.TrimSpace(fmt.Sprintf(format, args...)))
			}
			done, err := v.do(ctx, &one, id)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				a.result("%s", done)
				return nil
			}
			errs[i] = cannot(v.what, id, err)
			a.tell(errs[i], a.hint(errs[i]))
			return nil // it does not keep the others from being done
		})
	}
	all.Wait()
	return v.partly(errs)
}

// partly sums up what failed, each of which has been told: it gives no advice
// again, and its kind, and so the exit code, is the first one's.
func (v tenantsVerb) partly(errs []error) error {
	var first error
	failed := 0
	for _, err := range errs {
		if err == nil {
			continue
		}
		if failed++; failed == 1 {
			first = err
		}
	}
	if failed == 0 {
		return nil
	}
	sum := &fault.Error{Msg: fmt.Sprintf("cannot %s %d of %d tenants", v.what, failed, len(errs))}
	var kind *fault.Kind
	if errors.As(first, &kind) {
		sum.Kind = kind
	}
	return sum
}

// mustExist refuses ids of no tenant among several; of one alone, what is done
// with it tells, under its lock.
func mustExist(_ context.Context, h *lifecycle.Host, ids []string) error {
	if len(ids) == 1 {
		return nil
	}
	for _, id := range ids {
		if err := h.MustExist(id); err != nil {
			return err
		}
	}
	return nil
}

// parallelFlag adds --parallel to what works on several tenants.
func parallelFlag(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "parallel", 4, "how many tenants to work on at once")
}

// once leaves out what a list has already.
func once(list []string) []string {
	var unique []string
	for _, s := range list {
		if !slices.Contains(unique, s) {
			unique = append(unique, s)
		}
	}
	return unique
}

func got(ids []string, all bool) string {
	if all {
		return "both"
	}
	return fmt.Sprint(len(ids))
}
