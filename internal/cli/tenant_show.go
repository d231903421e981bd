package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lifecycle"
)

// shown is what show prints as JSON.
type shown struct {
	lifecycle.Status
	DiskBytes int64           `json:"disk_bytes"`           // what the volumes take on the host
	Differs   []string        `json:"differs,omitempty"`    // what the spec says otherwise than the last run: it holds from the next one on
	NextBuild []string        `json:"next_build,omitempty"` // what it says otherwise than the last build
	Manifest  *build.Manifest `json:"manifest,omitempty"`
}

func (a *app) tenantShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show <id>",
		Example: `  mvm tenant show acme
  mvm tenant show acme --json | jq .manifest.source`,
		Short: "Print a tenant's spec, its state as observed now, and what its guest was built from",
		Args:  exactArgs(1, "one tenant id"),
		RunE: a.onTenant("show", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			status, err := h.Observe(args[0])
			if err != nil {
				return err
			}
			s := shown{Status: status, DiskBytes: h.DiskBytes(args[0], status.Spec.Volumes)}
			if s.Manifest, err = h.Manifest(args[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			s.Differs, s.NextBuild = lifecycle.Pending(status, s.Manifest)
			return output(a, s, a.printTenant)
		}),
	}
	a.jsonFlag(cmd, shown{})
	return cmd
}

// state is what a tenant is doing, since when, and how often it had to be
// started again meanwhile.
func state(s lifecycle.Status, now time.Time) string {
	text := string(s.Phase)
	if !s.Since.IsZero() {
		text += fmt.Sprintf(", since %s (%s)", s.Since.Local().Format(time.RFC3339), ago(now, s.Since))
	}
	if n := s.State.Restarts; n > 0 {
		text += fmt.Sprintf(", restarts: %d", n)
	}
	return text
}

func (a *app) printTenant(s shown) error {
	w := tabwriter.NewWriter(a.plain(), 0, 8, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("tenant", "%s", s.ID)
	row("state", "%s", state(s.Status, time.Now()))
	if s.Reason != "" {
		row("reason", "%s", s.Reason)
	}
	row("flake", "%s", s.Spec.FlakeRef)
	row("profile", "%s", s.Spec.Profile)
	row("resources", "%d vCPU, %d MiB memory, %d MiB data", s.Spec.VCPUs, s.Spec.MemMiB, s.Spec.DataMiB)
	for _, v := range s.Spec.Volumes {
		row("volume", "%s", v)
	}
	row("disk", "%s of %s", byteSize(s.DiskBytes), byteSize(s.Spec.DiskBytes()))
	row("egress", "%s", s.Spec.Egress)
	row("restart", "%s", s.Spec.Restart)
	row("network", "%s (%s) on %s, %s", s.State.Net.IP, s.State.Net.MAC, s.State.Net.TAP, s.State.Net.Bridge)
	if s.Running {
		row("vmm", "%s, process %d, %s tier", s.State.VMM, s.State.FirecrackerPID, s.State.Tier)
	}
	for _, d := range s.Differs {
		row("from the next run on", "%s", d)
	}
	for _, d := range s.NextBuild {
		row("from the next build on", "%s", d)
	}
	if m := s.Manifest; m != nil {
		row("image", "%s", m.Image)
		row("built", "%s", m.EndedAt.Local().Format(time.RFC3339))
		source := m.Source.URL
		if m.Source.Snapshot != "" { // a folder of this host, whose URL is long and says no more
			source = m.Source.Ref
		}
		row("source", "%s", source)
		row("source hash", "%s", m.Source.NARHash)
		if r := m.Source.Revision; r != "" {
			if m.Source.Dirty {
				r += ", with changes that are not committed"
			}
			row("revision", "%s", r)
		}
		row("lock", "%s", m.Source.LockHash)
		for _, o := range m.Outputs {
			row(o.Attr, "%s %s", o.StorePath, o.NARHash)
		}
		for _, f := range m.Artifacts {
			row(f.Name, "sha256 %s, %d bytes", f.SHA256, f.Size)
		}
	}
	return w.Flush()
}
