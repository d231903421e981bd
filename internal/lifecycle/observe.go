package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/auser/mvm/internal/proc"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// Status is a tenant as it was found, not as it was written down.
type Status struct {
	ID      string       `json:"tenant_id"`
	Phase   tenant.Phase `json:"phase"` // created, starting, running, paused, stopping, stopped, failed or restarting
	Reason  string       `json:"reason,omitempty"`
	Since   time.Time    `json:"since,omitzero"`
	Running bool         `json:"running"`         // the VMM process is there, now
	Built   bool         `json:"built"`           // there is something to boot
	Spec    tenant.Spec  `json:"spec"`            // as asked for
	State   tenant.State `json:"state"`           // as written down
	Error   string       `json:"error,omitempty"` // the state cannot be read

	supervised bool // in a phase that needs a supervisor: there is one
}

// Listed is one tenant of a list.
type Listed struct {
	Status
	DiskBytes     int64   `json:"disk_bytes"`     // what the volumes take on the host
	UptimeSeconds float64 `json:"uptime_seconds"` // 0 unless it runs
}

// Words say how the tenant is, for an error: it is stopped; it has failed, and
// why.
func (s Status) Words() string {
	if s.Phase != tenant.Failed {
		return fmt.Sprintf("it is %s", s.Phase)
	}
	if s.Reason == "" {
		return "it has failed"
	}
	return "it has failed: " + s.Reason
}

// List observes every tenant, sorted by id. One that cannot be read is listed
// with its error.
func (h *Host) List() ([]Listed, error) {
	names, err := h.Store.Folders()
	if err != nil {
		return nil, err
	}
	list, now := make([]Listed, len(names)), time.Now()
	parallel(len(names), func(i int) {
		id := names[i]
		if tenant.CheckID(id) != nil {
			return
		}
		status, err := h.Observe(id)
		if errors.Is(err, store.ErrNotFound) {
			return
		}
		if err != nil {
			status = Status{ID: id, Phase: tenant.Failed, Reason: "its state cannot be read", Error: err.Error()}
		}
		list[i] = Listed{Status: status, DiskBytes: h.DiskBytes(id, status.Spec.Volumes)}
		if status.Running {
			list[i].UptimeSeconds = status.State.Uptime(now).Seconds()
		}
	})
	return slices.DeleteFunc(list, func(l Listed) bool { return l.ID == "" }), nil
}

// Observe looks at one tenant.
func (h *Host) Observe(id string) (Status, error) {
	spec, err := h.Store.LoadSpec(id)
	if err != nil {
		return Status{}, err
	}
	state, alive, err := h.stateAndLife(id)
	if err != nil {
		return Status{}, err
	}
	st := Status{
		ID: id, Phase: state.Phase, Reason: state.Reason, Since: state.Since,
		Built: state.Artifacts.Built(), Spec: spec, State: state, supervised: alive,
	}
	if !live(state.Phase) {
		return st, nil
	}
	boot, err := proc.BootID()
	if err != nil {
		return Status{}, err
	}
	st.Running = alive && state.Running && proc.ID{PID: state.FirecrackerPID, Start: state.FirecrackerStart}.Alive()
	switch {
	case !alive && state.BootID != boot:
		st.Phase, st.Reason = tenant.Stopped, "the host was restarted"
	case !alive:
		st.Phase, st.Reason = tenant.Failed, "its supervisor ended unexpectedly"
	case (state.Phase == tenant.Running || state.Phase == tenant.Paused) && !st.Running:
		st.Phase, st.Reason = tenant.Failed, fmt.Sprintf("its VMM, process %d, is gone", state.FirecrackerPID)
	}
	return st, nil
}

// stateAndLife reads a tenant's state and whether its supervisor lives, such
// that the two belong together: a supervisor that ends between the one look
// and the other has written its last word in the meantime.
func (h *Host) stateAndLife(id string) (state tenant.State, alive bool, err error) {
	for {
		state, err = h.Store.LoadState(id)
		if err != nil || !live(state.Phase) {
			return state, false, err
		}
		if alive, err = h.Store.SupervisorAlive(id); err != nil || alive {
			return state, alive, err
		}
		again, err := h.Store.LoadState(id)
		if err != nil || again.Phase == state.Phase && again.Since.Equal(state.Since) {
			return again, false, err
		}
	}
}

// live says whether a supervisor should be there in this phase.
func live(p tenant.Phase) bool {
	switch p {
	case tenant.Starting, tenant.Running, tenant.Paused, tenant.Stopping, tenant.Restarting:
		return true
	}
	return false
}
