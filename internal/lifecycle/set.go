package lifecycle

import (
	"context"
	"fmt"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// Changed is what set did.
type Changed struct {
	Now  []string // changes that hold already
	Next []string // changes that take effect at the next run
	Make []string // changes that take effect at the next build and run
	Note string   // what of a change is still to come; empty where nothing is
}

// Set changes the spec. Nothing is changed unless all of it can be.
func (h *Host) Set(ctx context.Context, id, dir string, change func(*tenant.Spec)) (Changed, error) {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return Changed{}, err
	}
	defer lock.Unlock()
	status, err := h.Observe(id)
	if err != nil {
		return Changed{}, err
	}
	spec := status.Spec
	change(&spec)
	if spec.FlakeRef != status.Spec.FlakeRef {
		if spec.FlakeRef, err = absFlake(spec.FlakeRef, dir); err != nil {
			return Changed{}, err
		}
	}
	if err := spec.Validate(); err != nil {
		return Changed{}, err
	}
	if spec.Volumes, err = h.absFolders(status.Spec.Volumes, spec.Volumes, dir); err != nil {
		return Changed{}, err
	}
	done := effects(status, spec)
	if len(SpecDiff(status.Spec, spec)) == 0 && status.State.Spec.Egress == spec.Egress {
		done.Note, err = h.settle(ctx, status)
		return done, err
	}
	err = h.apply(ctx, status, spec, &done.Note)
	return done, h.recordFailure(id, "set", setDetail(status, spec), err)
}

func setDetail(from Status, to tenant.Spec) map[string]any {
	return map[string]any{"from": from.Spec, "to": to}
}

// Pending says what of the spec is still to take effect: at the next run what
// the last one had otherwise, or the one that goes on has, and at the next
// build what the artifacts were made from otherwise. Without a manifest nothing
// was built yet, so nothing is otherwise.
func Pending(s Status, m *build.Manifest) (atRun, atBuild []string) {
	last := s
	last.Spec, last.Phase = s.State.Spec, tenant.Running
	last.Spec.FlakeRef, last.Spec.Profile = s.Spec.FlakeRef, s.Spec.Profile
	if m != nil {
		last.Spec.FlakeRef, last.Spec.Profile = m.Source.Ref, m.Profile
	}
	to := effects(last, s.Spec)
	return to.Next, to.Make
}

// effects says what of a change takes effect when.
func effects(s Status, to tenant.Spec) Changed {
	var done Changed
	add := func(list *[]string, field string, from, to any) {
		if from != to {
			*list = append(*list, fmt.Sprintf("%s %v → %v", field, from, to))
		}
	}
	next := &done.Now
	if live(s.Phase) {
		next = &done.Next
	}
	add(next, "vcpus", s.Spec.VCPUs, to.VCPUs)
	add(next, "mem_mib", s.Spec.MemMiB, to.MemMiB)
	grown := s.Spec.Volumes // as far as the run that goes on has them
	if live(s.Phase) {
		grown = s.Spec.Volumes.Grown(s.State.Spec.Volumes.Grown(to.Volumes))
	}
	add(&done.Now, "volumes", s.Spec.Volumes.String(), grown.String())
	add(next, "volumes", grown.String(), to.Volumes.String())
	wanted := to.Machine.Fields()
	for i, f := range s.Spec.Machine.Fields() {
		add(next, f.Name, f.Value, wanted[i].Value)
	}
	add(&done.Now, "data_mib", s.Spec.DataMiB, to.DataMiB)
	add(&done.Now, "egress", s.Spec.Egress, to.Egress)
	add(&done.Now, "restart", s.Spec.Restart, to.Restart)
	add(&done.Make, "flake_ref", s.Spec.FlakeRef, to.FlakeRef)
	add(&done.Make, "profile", s.Spec.Profile, to.Profile)
	return done
}

// apply carries out what takes effect at once, around the write of the spec:
// the disk grows before (a larger disk than the spec says is harmless), the
// policy changes after (the spec is what reconcile would restore).
func (h *Host) apply(ctx context.Context, s Status, to tenant.Spec, note *string) error {
	err := sequence(ctx, "set", []step{
		{"grow", func(ctx context.Context) error {
			var err error
			*note, err = h.growAll(ctx, s, to)
			return err
		}},
	})
	if err != nil {
		return err
	}
	lock, err := h.Store.ShareNetwork(ctx) // reconcile does not see the one without the other
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return sequence(ctx, "set", []step{
		{"record", func(context.Context) error { return h.record(to.TenantID, "set", setDetail(s, to), nil) }},
		{"spec", func(context.Context) error { return h.Store.SaveSpec(to) }},
		{"run", func(ctx context.Context) error { return h.applyToRun(ctx, s, to) }},
	})
}

// applyToRun changes what holds for the run that goes on. A supervisor that
// attaches the network meanwhile does so with the host locked: before this,
// which then finds the TAP, or after it, with the new policy.
func (h *Host) applyToRun(ctx context.Context, s Status, to tenant.Spec) error {
	lock, err := h.Store.LockHost(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return sequence(ctx, "set", []step{
		{"egress", func(ctx context.Context) error {
			if to.Egress == s.State.Spec.Egress || !live(s.Phase) {
				return nil
			}
			return h.applyEgress(ctx, s.State, to.Egress)
		}},
		{"state", func(context.Context) error {
			return h.Store.UpdateState(to.TenantID, func(st *tenant.State) error {
				st.Spec.Egress, st.Spec.Volumes = to.Egress, st.Spec.Volumes.Grown(to.Volumes)
				return nil
			})
		}},
	})
}

// applyEgress changes the policy of a tenant that runs, where its network is
// attached. The caller shares the network.
func (h *Host) applyEgress(ctx context.Context, state tenant.State, egress string) error {
	state.Spec.Egress = egress
	ep, err := supervisor.Endpoint(state)
	if err != nil {
		return err
	}
	return network.Update(ctx, supervisor.NetworkConfig(h.Store, h.Config), ep)
}
