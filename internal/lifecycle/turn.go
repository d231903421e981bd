package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// turnNote tells that the tenant waits for its turn to boot, and how many come
// before it.
func (h *Host) turnNote(id string) string {
	const note = "it waits for its turn to boot"
	mine, err := h.Store.LoadState(id)
	if err != nil {
		return note
	}
	ids, err := h.Store.ActiveIDs()
	if err != nil {
		return note
	}
	before := 0
	for _, other := range ids {
		s, alive, err := h.stateAndLife(other)
		if err == nil && alive && s.Phase == tenant.Starting && s.Since.Before(mine.Since) {
			before++
		}
	}
	return fmt.Sprintf("%s, %d before it", note, before)
}

// waitForTurn returns when the VMM of a tenant that somebody else has started
// runs: only then a deadline for its guest can begin.
func (h *Host) waitForTurn(ctx context.Context, id string) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		s, err := h.Observe(id)
		switch {
		case err != nil:
			return err
		case !live(s.Phase):
			return &Error{Kind: ErrState, Msg: s.Words(), Hint: h.Command("run", id)}
		case s.Phase != tenant.Starting:
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return stoppedWaiting(ctx)
		}
	}
}

// tellAnswers ends the turn of a guest that has answered. Where this cannot be
// told, or there is no turn, nothing is lost but time: it ends by itself.
func (h *Host) tellAnswers(ctx context.Context, id string) {
	if h.Config.Tier != config.TierSoftware {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = supervisor.Client{Socket: h.Store.Tenant(id).ControlSocket()}.Answers(ctx)
}

func stoppedWaiting(ctx context.Context) error {
	return fmt.Errorf("stopped waiting; the tenant goes on waiting for its turn to boot: %w", ctx.Err())
}
