package cli

import (
	"context"
	"io"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// watch shows something again and again until ctx ends, which is how it is
// meant to end. On a terminal it stays in its place.
func (a *app) watch(ctx context.Context, every time.Duration, show func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if a.width() > 0 && !a.json {
			// Home, and clear from there: no flicker, unlike clearing first.
			if _, err := io.WriteString(a.Out, ansi.CursorHomePosition+ansi.EraseEntireScreen); err != nil {
				return err
			}
		}
		if err := show(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
