package lifecycle

import (
	"context"
	"time"

	"github.com/auser/mvm/internal/crash"
)

// step is one change of an act. Each can be repeated: an act that was killed
// after any of its steps is finished by doing it again.
type step struct {
	name string
	do   func(context.Context) error
}

// sequence does the steps of an act in order and stops at the first failure.
func sequence(ctx context.Context, act string, steps []step) error {
	for _, s := range steps {
		began := time.Now()
		err := s.do(ctx)
		trace(ctx, s.name, began)
		if err != nil {
			return err
		}
		crash.Point(act + "/" + s.name)
	}
	return nil
}
