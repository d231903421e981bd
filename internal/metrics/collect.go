package metrics

import (
	"context"
	"fmt"
	"io"

	"github.com/auser/mvm/internal/buildinfo"
	"github.com/auser/mvm/internal/diskspace"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/stats"
	"github.com/auser/mvm/internal/tenant"
)

// Collect measures the host and all of its tenants, and writes what it found.
func Collect(ctx context.Context, w io.Writer, h *lifecycle.Host, reader *stats.Reader) error {
	samples, err := reader.All()
	if err != nil {
		return err
	}
	disk, err := diskspace.Of(h.Store.Root)
	if err != nil {
		return fmt.Errorf("cannot look at the disk of %s: %w", h.Store.Root, err)
	}
	what := Host{
		Version: buildinfo.Get().Version, Tier: h.Config.Tier,
		DiskFree: disk.Free, DiskTotal: disk.Total,
		Drops: map[string]map[string]uint64{},
	}
	net, err := h.Network(ctx)
	if err != nil {
		return err
	}
	for _, s := range samples {
		dropped := net.Drops[tenant.TapName(h.Store.Scope, s.ID)]
		what.Drops[s.ID] = make(map[string]uint64, len(dropped))
		for reason, n := range dropped {
			what.Drops[s.ID][string(reason)] = n
		}
	}
	return Write(w, what, samples)
}
