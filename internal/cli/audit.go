package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit [tenant]",
		Example: `  mvm audit          # the host
  mvm audit acme     # a tenant, also one that is gone`,
		Short: "Print the record of what was done to a tenant, or to the host",
		Args:  cobra.MaximumNArgs(1),
		RunE: a.onHost(func(_ context.Context, h *lifecycle.Host, args []string) error {
			entries, err := h.Audit(optional(args))
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(orEmpty(entries))
			}
			if len(entries) == 0 {
				a.note("nothing is on record yet")
				return nil
			}
			t := &table{head: []string{"TIME", "WHO", "ACT", "RESULT", "ERROR"}}
			for _, e := range entries {
				who := e.User
				if who == "" {
					who = fmt.Sprint(e.UID)
				}
				if e.SudoBy != "" {
					who = e.SudoBy + " as " + who
				}
				t.row(e.Time.Format(time.RFC3339), who, e.Act, e.Result, e.Error)
			}
			return a.printTable(t)
		}),
	}
	a.jsonFlag(cmd, []audit.Entry{})
	cmd.AddCommand(a.auditVerify())
	return cmd
}

// verified is what mvm audit verify prints as JSON.
type verified struct {
	Records int    `json:"records"`
	Last    string `json:"last,omitempty"` // SHA-256 of the last record's line
}

func (a *app) auditVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "verify [tenant]",
		Example: `  mvm audit verify acme`,
		Short:   "Check that no record was changed or cut; prints the last hash, to be kept elsewhere",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.onHost(func(_ context.Context, h *lifecycle.Host, args []string) error {
			n, head, err := h.VerifyAudit(optional(args))
			if err != nil {
				return fmt.Errorf("the audit record does not hold: %w", err)
			}
			if a.json {
				return a.printJSON(verified{n, head})
			}
			if n == 0 {
				a.result("nothing is on record yet")
				return nil
			}
			a.result("%d records hold, the last is %s", n, head)
			return nil
		}),
	}
	a.jsonFlag(cmd, verified{})
	return cmd
}
