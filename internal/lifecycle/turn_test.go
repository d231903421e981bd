package lifecycle

import (
	"errors"
	"testing"

	"github.com/auser/mvm/internal/tenant"
)

// Who waits for another's start hears why nothing came of it.
func TestWaitForTurnInVain(t *testing.T) {
	h := newHost(t)
	err := h.Store.UpdateState("acme", func(s *tenant.State) error {
		s.Phase, s.Reason = tenant.Failed, "the disk is full"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.waitForTurn(t.Context(), "acme"); !errors.Is(err, ErrState) || err.Error() != "it has failed: the disk is full" {
		t.Errorf("%v", err)
	}
}
