package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tenants and their state, as observed now",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			list, err := h.List()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			return a.printTenants(list)
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printTenants(list []lifecycle.Status) error {
	if len(list) == 0 {
		a.note("no tenants; mvm tenant create <id> makes one")
		return nil
	}
	w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TENANT\tSTATE\tPROFILE\tTIER\tVCPU\tMEM\tADDRESS\tREASON")
	for _, s := range list {
		reason := s.Reason
		if s.Error != "" {
			reason = s.Error
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d MiB\t%s\t%s\n", s.ID, s.Phase, s.Spec.Profile, dash(s.State.Tier), s.Spec.VCPUs, s.Spec.MemMiB, dash(s.State.Net.IP), reason)
	}
	return w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// jsonFlag adds --json, which every reading command has.
func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
