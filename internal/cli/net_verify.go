package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/network"
)

func (a *app) netVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify <id>",
		Short: "Prove by packets what a tenant cannot reach",
		Long: `Prove by packets what a tenant cannot reach.

Two probe ports join the tenants' network for a few seconds, with addresses
that no tenant gets. One has the tenant's egress policy and sends the frames
that a hostile guest would send; the host is watched for where they come out.
The tenant is not disturbed and need not run.`,
		Example: "  mvm net verify acme\n  mvm net verify acme --json | jq '.[] | select(.blocked | not)'",
		Args:    exactArgs(1, "a tenant"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
			results, err := h.VerifyNetwork(ctx, args[0])
			if err != nil {
				return err
			}
			if err := output(a, orEmpty(results), a.printProof); err != nil {
				return err
			}
			open := 0
			for _, r := range results {
				if !r.Blocked && r.Skipped == "" {
					open++
				}
			}
			if open > 0 {
				return &lifecycle.Error{Kind: lifecycle.ErrState, Msg: fmt.Sprintf("%d of the attacks got through", open), Hint: "mvm net check says what differs, mvm reconcile sets it right"}
			}
			a.note("nothing got through")
			return nil
		}),
	}
	a.jsonFlag(cmd, []network.ProbeResult{})
	return cmd
}

func (a *app) printProof(results []network.ProbeResult) error {
	t := &table{head: []string{"ATTACK", "RESULT", "WHAT"}}
	for _, r := range results {
		result := "NOT BLOCKED"
		switch {
		case r.Skipped != "":
			result = "not tried"
		case r.Blocked:
			result = "blocked"
		}
		t.row(fmt.Sprint(r.Number), result, r.Name)
	}
	return a.printTable(t)
}
