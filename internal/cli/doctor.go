package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/doctor"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) doctorCommand() *cobra.Command {
	var fix bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what mvm needs of this host, and what a production host should have",
		Long: `Check what mvm needs of this host, and what a production host should have.

A failure keeps mvm from working, and the exit code is 5. A warning is how a
production host should not be. Each comes with what to do about it. --fix does
what disturbs nobody else: it closes the state directory to others, switches
same-page merging off, and does what mvm reconcile does.`,
		Example: "  mvm doctor\n  mvm doctor --fix\n  mvm doctor --json | jq '.[] | select(.level == \"failure\")'",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			results := doctor.Run(ctx, doctor.Checks(h), fix)
			if err := cmp.Or(output(a, results, a.printFindings), ctx.Err()); err != nil {
				return err
			}
			if doctor.Worst(results) == doctor.Failure {
				return &lifecycle.Error{Kind: lifecycle.ErrHost, Msg: "this host lacks what mvm needs", Hint: "see the failures above"}
			}
			return nil
		}),
	}
	a.jsonFlag(cmd, []doctor.Result{})
	cmd.Flags().BoolVar(&fix, "fix", false, "mend what can be mended safely")
	return cmd
}

func (a *app) printFindings(results []doctor.Result) error {
	colors := map[doctor.Level]ansi.Style{doctor.OK: green, doctor.Note: dim, doctor.Warning: yellow, doctor.Failure: red}
	for _, r := range results {
		if a.quiet && (r.Level == doctor.OK || r.Level == doctor.Note) && !r.Fixed {
			continue
		}
		found := r.Found
		if r.Fixed {
			found += " (mended)"
		}
		if _, err := fmt.Fprintf(a.Out, "%s %-20s  %s\n", a.paint(colors[r.Level], fmt.Sprintf("%-7s", r.Level)), r.Check, plainText(found)); err != nil {
			return err
		}
		advice := r.Fix
		if r.Error != "" {
			advice = "could not be mended: " + r.Error + "; " + advice
		} else if r.Fixable && !r.Fixed {
			advice += " (mvm doctor --fix does it)"
		}
		if advice != "" {
			if _, err := fmt.Fprintf(a.Out, "%30sfix: %s\n", "", plainText(advice)); err != nil {
				return err
			}
		}
	}
	return nil
}
