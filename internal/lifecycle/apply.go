package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/auser/mvm/internal/fleet"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// Plan is what apply will do with one tenant.
type Plan struct {
	Tenant string   `json:"tenant_id"`
	Steps  []string `json:"steps"`           // create, change, build, run, stop, destroy
	Diff   []string `json:"diff,omitempty"`  // of the spec, as "vcpus 1 → 2"
	Done   []string `json:"done,omitempty"`  // of the steps, once applied
	Error  string   `json:"error,omitempty"` // why one failed
	Later  []string `json:"later,omitempty"` // what takes effect when

	want tenant.Spec
}

// PlanFleet compares what is with what should be. Relative flakes are seen from
// dir. With prune, tenants that are not wished for go; their data volumes are
// kept. Nothing is changed, and tenants that are as they should be are left
// out.
func (h *Host) PlanFleet(wishes []fleet.Wish, dir string, prune bool) ([]Plan, error) {
	var plans []Plan
	wished := map[string]bool{}
	for _, w := range wishes {
		wished[w.Spec.TenantID] = true
		p, err := h.plan(w, dir)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", w.Spec.TenantID, err)
		}
		if len(p.Steps) > 0 {
			plans = append(plans, p)
		}
	}
	if !prune {
		return plans, nil
	}
	ids, err := h.Store.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !wished[id] {
			plans = append(plans, Plan{Tenant: id, Steps: []string{"destroy"}})
		}
	}
	return plans, nil
}

func (h *Host) plan(w fleet.Wish, dir string) (Plan, error) {
	want := w.Spec
	p := Plan{Tenant: want.TenantID}
	ref, err := absFlake(want.FlakeRef, dir)
	if err != nil {
		return p, err
	}
	want.FlakeRef = ref
	status, err := h.Observe(want.TenantID)
	missing := errors.Is(err, store.ErrNotFound)
	if err != nil && !missing {
		return p, err
	}
	if want.Volumes, err = h.absFolders(status.Spec.Volumes, want.Volumes, dir); err != nil {
		return p, err
	}
	p.want = want
	if missing {
		p.Steps = []string{"create"}
		if w.Running != nil && *w.Running {
			p.Steps = append(p.Steps, "build", "run")
		}
		return p, nil
	}
	changes := effects(status, want)
	if p.Diff = slices.Concat(changes.Now, changes.Next, changes.Make); len(p.Diff) > 0 {
		if want.DataMiB < status.Spec.DataMiB {
			return p, &tenant.InputError{Msg: fmt.Sprintf("its data volume has %d MiB and cannot shrink to %d", status.Spec.DataMiB, want.DataMiB), Hint: "leave data_mib as it is"}
		}
		p.Steps = append(p.Steps, "change")
	}
	switch {
	case w.Running == nil:
	case *w.Running:
		if !status.Built || want.FlakeRef != status.Spec.FlakeRef || want.Profile != status.Spec.Profile {
			p.Steps = append(p.Steps, "build")
		}
		if !live(status.Phase) {
			p.Steps = append(p.Steps, "run")
		}
	case live(status.Phase):
		p.Steps = append(p.Steps, "stop")
	}
	return p, nil
}

// ApplyFleet carries plans out, limit of them at once. One that fails does not
// keep the others from being done. done is told of each as it ends, one at a
// time.
func (h *Host) ApplyFleet(ctx context.Context, plans []Plan, limit int, done func(Plan)) error {
	var (
		all    errgroup.Group
		mu     sync.Mutex
		failed error
	)
	all.SetLimit(max(limit, 1))
	for _, p := range plans {
		all.Go(func() error {
			err := h.applyPlan(ctx, &p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				p.Error = err.Error()
				failed = errors.Join(failed, fmt.Errorf("tenant %s: %w", p.Tenant, err))
			}
			done(p)
			return nil // it does not keep the others from being done
		})
	}
	all.Wait()
	return failed
}

func (h *Host) applyPlan(ctx context.Context, p *Plan) error {
	for _, step := range p.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := h.applyStep(ctx, p, step); err != nil {
			return fmt.Errorf("cannot %s it: %w", step, err)
		}
		p.Done = append(p.Done, step)
	}
	return nil
}

func (h *Host) applyStep(ctx context.Context, p *Plan, step string) error {
	switch step {
	case "create":
		_, err := h.Create(ctx, p.want, CreateOptions{Dir: "/"})
		return err
	case "change":
		changed, err := h.Set(ctx, p.Tenant, "/", func(s *tenant.Spec) {
			w := p.want // field by field: what a newer mvm wrote beside them stays
			s.FlakeRef, s.Profile, s.VCPUs, s.MemMiB = w.FlakeRef, w.Profile, w.VCPUs, w.MemMiB
			s.DataMiB, s.Egress, s.Restart, s.Volumes, s.Machine = w.DataMiB, w.Egress, w.Restart, w.Volumes, w.Machine
		})
		for _, c := range changed.Next {
			p.Later = append(p.Later, c+", at the next run")
		}
		for _, c := range changed.Make {
			p.Later = append(p.Later, c+", at the next build and run")
		}
		return err
	case "build":
		_, _, err := h.Build(ctx, p.Tenant, BuildOptions{})
		return err
	case "run":
		_, err := h.Run(ctx, p.Tenant, RunOptions{})
		return err
	case "stop":
		_, err := h.Stop(ctx, p.Tenant, StopOptions{})
		return err
	case "destroy":
		_, err := h.Destroy(ctx, p.Tenant, DestroyOptions{})
		return err
	}
	return fmt.Errorf("%q is no step", step)
}

// Fleet is the declaration of the tenants named, or of all, as they are.
func (h *Host) Fleet(ids []string) ([]fleet.Wish, error) {
	if len(ids) == 0 {
		all, err := h.Store.IDs()
		if err != nil {
			return nil, err
		}
		ids = all
	}
	wishes := make([]fleet.Wish, 0, len(ids))
	for _, id := range ids {
		status, err := h.Observe(id)
		if err != nil {
			return nil, err
		}
		running := live(status.Phase)
		wishes = append(wishes, fleet.Wish{Spec: status.Spec, Running: &running})
	}
	return wishes, nil
}
