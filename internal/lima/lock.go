package lima

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/flock"
)

// lockFile takes an exclusive lock that ends with the file's last descriptor.
// waiting is called once if somebody else has it.
func lockFile(ctx context.Context, f *os.File, waiting func()) error {
	told := false
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := flock.Lock(f, unix.LOCK_EX|unix.LOCK_NB)
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
