package lifecycle

import (
	"runtime"

	"golang.org/x/sync/errgroup"
)

// parallel does do(0) to do(n-1) on as many processors as there are.
func parallel(n int, do func(i int)) {
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		all.Go(func() error { do(i); return nil })
	}
	all.Wait()
}
