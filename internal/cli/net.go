package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/network/firewall"
)

func (a *app) netCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "net",
		Short: "Look at the tenants' network, compare it with what it should be, or remove it",
		Example: `  mvm net show
  mvm net check`,
	})
	cmd.AddCommand(a.netShow(), a.netCheck(), a.netVerify(), a.netRemove())
	return cmd
}

func (a *app) netShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Print bridges, TAPs, whose they are, the firewall and what it has dropped",
		Example: "  mvm net show\n  mvm net show --json | jq .drops\n  mvm net show --json | jq '.leases[] | select(.ip == \"10.50.0.10\")'",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			s, err := h.Network(ctx)
			if err != nil {
				return err
			}
			return output(a, s, a.printNetwork)
		}),
	}
	a.jsonFlag(cmd, lifecycle.Network{})
	return cmd
}

func (a *app) printNetwork(s lifecycle.Network) error {
	forwarding := "off"
	if s.Forwarding {
		forwarding = "on"
	}
	a.result("gateway %s, firewall %s, IPv4 forwarding %s", s.Gateway, dash(s.Firewall), forwarding)
	for _, r := range s.Resolvers {
		a.result("DNS %s", r)
	}
	if len(s.Bridges)+len(s.TAPs) == 0 {
		a.note("no links: they are made with the first tenant that runs")
		return nil
	}
	t := &table{
		head:  []string{"LINK", "BRIDGE", "TENANT", "ADDRESS", "STATE", "FROM TENANT", "TO TENANT", "DROPPED"},
		spare: []string{"BRIDGE", "TO TENANT", "FROM TENANT", "ADDRESS"},
	}
	leases := map[string]lifecycle.Lease{}
	for _, l := range s.Leases {
		leases[l.TAP] = l
	}
	for _, l := range slices.Concat(s.Bridges, s.TAPs) {
		whose, address := "-", s.Gateway.Addr().String()
		if l.Bridge != "" {
			whose, address = "nobody's", "-"
			if lease, ok := leases[l.Name]; ok {
				whose, address = lease.Tenant, lease.IP.String()
			}
		}
		state := "down"
		switch {
		case l.InUse:
			state = "in use"
		case l.Up:
			state = "up"
		}
		t.row(l.Name, dash(l.Bridge), whose, address, state, byteSize(int64(l.RxBytes)), byteSize(int64(l.TxBytes)), drops(s.Drops[l.Name]))
	}
	return a.printTable(t)
}

func drops(d firewall.Drops) string {
	text := ""
	for _, reason := range slices.Sorted(maps.Keys(d)) {
		if d[reason] > 0 {
			text += fmt.Sprintf("%s %d ", reason, d[reason])
		}
	}
	return text
}

func (a *app) netCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Compare links and rules with what the running tenants should have; changes nothing",
		Example: "  mvm net check || mvm reconcile",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			acts, err := h.CheckNetwork(ctx)
			if err != nil {
				return err
			}
			if a.json {
				if err := a.printJSON(orEmpty(acts)); err != nil {
					return err
				}
			} else {
				for _, act := range acts {
					fmt.Fprintln(a.plain(), act)
				}
			}
			if len(acts) > 0 {
				return &lifecycle.Error{Kind: lifecycle.ErrState, Msg: fmt.Sprintf("the network differs in %d places from what it should be", len(acts)), Hint: "mvm reconcile"}
			}
			a.note("the network is as it should be")
			return nil
		}),
	}
	a.jsonFlag(cmd, []lifecycle.Act{})
	return cmd
}
