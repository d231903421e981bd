package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/devvm"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
)

// hostStatus is what mvm status --json prints.
type hostStatus struct {
	Tier       string       `json:"tier"`
	TierReason string       `json:"tier_reason"`
	VMM        string       `json:"vmm"`
	Dev        devvm.Status `json:"dev"`
	Tenants    int          `json:"tenants"`
	Running    int          `json:"running"`
}

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Say how this host, its dev microVM and its tenants are, as observed now",
		Example: "  mvm status\n  mvm status --json",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			s := hostStatus{Tier: h.Config.Tier, TierReason: h.Config.TierReason, VMM: "-"}
			if driver, err := supervisor.Driver(h.Config); err == nil {
				s.VMM = driver.Name()
			}
			vm, err := devvm.Existing(h, a.note)
			if err != nil {
				return err
			}
			if s.Dev, err = vm.Status(ctx); err != nil {
				return fmt.Errorf("cannot look at the dev microVM: %w", err)
			}
			list, err := h.List()
			if err != nil {
				return err
			}
			s.Tenants = len(list)
			for _, t := range list {
				if t.Running {
					s.Running++
				}
			}
			return output(a, s, a.printStatus)
		}),
	}
	a.jsonFlag(cmd, hostStatus{})
	return cmd
}

func (a *app) printStatus(s hostStatus) error {
	w := tabwriter.NewWriter(a.plain(), 0, 8, 2, ' ', 0)
	tier := "not decided: mvm setup"
	if s.Tier != "" {
		tier = s.Tier
		if s.TierReason != "" {
			tier += ": " + s.TierReason
		}
	}
	dev := "none: mvm dev makes it"
	if s.Dev.There {
		dev = string(s.Dev.MicroVM.Phase)
		if s.Dev.MicroVM.Running {
			dev += ", " + s.Dev.MicroVM.State.Net.IP
		}
		if s.Dev.MicroVM.Reason != "" {
			dev += ": " + s.Dev.MicroVM.Reason
		}
	}
	fmt.Fprintf(w, "tier\t%s\n", tier)
	fmt.Fprintf(w, "vmm\t%s\n", s.VMM)
	fmt.Fprintf(w, "dev microVM\t%s\n", dev)
	fmt.Fprintf(w, "ssh\t%s\n", s.Dev.SSH)
	if spec := s.Dev.MicroVM.Spec; s.Dev.There {
		for _, v := range spec.Volumes {
			fmt.Fprintf(w, "volume\t%s\n", v)
		}
		fmt.Fprintf(w, "disk\t%s of %s\n", byteSize(s.Dev.DiskBytes), byteSize(spec.DiskBytes()))
	}
	fmt.Fprintf(w, "tenants\t%d, %d of them running\n", s.Tenants, s.Running)
	return w.Flush()
}
