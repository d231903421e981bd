package supervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/auser/mvm/internal/vmm"
)

// seat holds the VM while there is one. Who changes it has it alone, who waits
// for that has their turn; where there is no VM, everybody hears at once why.
type seat struct {
	turn chan struct{} // full while somebody changes the VM

	mu     sync.Mutex
	vm     vmm.VM // nil while there is none
	absent absence
	gone   chan struct{} // closed when the VM is taken away
}

func newSeat() *seat {
	return &seat{turn: make(chan struct{}, 1), absent: absence{why: "it is starting"}}
}

// absence is why there is no VM, and until when, where that is known.
type absence struct {
	why   string
	until time.Time
}

func (a absence) Error() string {
	if a.until.IsZero() {
		return a.why
	}
	return fmt.Sprintf("%s, in %s", a.why, max(time.Until(a.until)+time.Second-1, 0).Truncate(time.Second))
}

// put says that there is a VM from here on.
func (t *seat) put(vm vmm.VM) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.vm, t.gone = vm, make(chan struct{})
}

// take takes the VM away, if there is one. Who acts on it is told to end, and
// has ended when this returns.
func (t *seat) take(a absence) {
	t.mu.Lock()
	there := t.vm != nil
	t.vm, t.absent = nil, a
	if there {
		close(t.gone)
	}
	t.mu.Unlock()
	t.turn <- struct{}{}
	<-t.turn
}

// look is the VM, for what may be done beside others, and what is closed when
// it is taken away.
func (t *seat) look() (vmm.VM, <-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vm == nil {
		return nil, nil, t.absent
	}
	return t.vm, t.gone, nil
}

// change does act with the VM, which nobody else changes meanwhile. Whoever does
// is waited for while wanted lasts. From then on act has as long as limit says,
// and no longer than the VM is there.
func (t *seat) change(wanted context.Context, limit time.Duration, act func(context.Context, vmm.VM) error) error {
	for {
		_, gone, err := t.look()
		if err != nil {
			return err
		}
		select {
		case t.turn <- struct{}{}:
			defer func() { <-t.turn }()
			return t.act(limit, act)
		case <-gone:
		case <-wanted.Done():
			return wanted.Err()
		}
	}
}

func (t *seat) act(limit time.Duration, act func(context.Context, vmm.VM) error) error {
	vm, gone, err := t.look() // it may have gone while this waited
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return act(ctx, vm)
}
