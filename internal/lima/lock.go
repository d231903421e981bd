package lima

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/flock"
)

// lockFile takes a lock, LOCK_EX or LOCK_SH, that ends with the file's last
// descriptor. waiting is called once if somebody else has it.
func lockFile(ctx context.Context, f *os.File, how int, waiting func()) error {
	told := false
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := flock.Lock(f, how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !told {
			waiting()
			told = true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
