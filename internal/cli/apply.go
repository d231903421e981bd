package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/fleet"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) applyCommand() *cobra.Command {
	var (
		from               string
		prune, dryRun, yes bool
		parallel           int
	)
	cmd := &cobra.Command{
		Use:   "apply -f <file>",
		Short: "Make tenants what a file declares; says what will be done first",
		Long: `Make tenants what a file declares; says what will be done first.

    version: 1
    tenants:
      acme:
        flake: ./guests      # seen from the file
        profile: minimal
        vcpus: 2
        mem_mib: 512
        running: true        # build and run it

What is left out has its default. A tenant that fails does not keep the others
from being done. docs/tenants.schema.json is a schema for editors.`,
		Example: "  mvm apply -f tenants.yaml --dry-run\n  mvm apply -f tenants.yaml --prune --yes\n  mvm export | mvm apply -f -",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			plans, err := a.planFile(h, from, prune)
			if err != nil {
				return fmt.Errorf("cannot apply %s: %w", from, err)
			}
			switch {
			case a.json && (dryRun || len(plans) == 0):
				return a.printJSON(orEmpty(plans))
			case len(plans) == 0:
				a.result("everything is as declared")
				return nil
			case !a.json:
				a.printPlans(plans)
			}
			if dryRun {
				return nil
			}
			if gone := destroyed(plans); len(gone) > 0 {
				if err := a.confirm(ctx, "Destroy tenants "+strings.Join(gone, ", "), yes); err != nil {
					return err
				}
			}
			return a.applyPlans(ctx, h, plans, parallel)
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&from, "file", "f", "", "the file; - is standard input")
	f.BoolVar(&prune, "prune", false, "destroy tenants that the file does not name; their data volumes are kept")
	f.BoolVar(&dryRun, "dry-run", false, "say what would be done, do nothing")
	parallelFlag(cmd, &parallel)
	yesFlag(cmd, &yes)
	a.jsonFlag(cmd, []lifecycle.Plan{})
	requireFlag(cmd, "file", "mvm apply -f tenants.yaml")
	return cmd
}

// partialError says how many tenants failed. Each failure has been printed with
// its tenant; the exit code is the first one's.
type partialError struct {
	failed, all int
	err         error
}

func (e *partialError) Error() string {
	return fmt.Sprintf("%d of %d tenants could not be made as declared", e.failed, e.all)
}

func (e *partialError) Unwrap() error { return e.err }

func (a *app) planFile(h *lifecycle.Host, from string, prune bool) ([]lifecycle.Plan, error) {
	data, err := a.readInput(from)
	if err != nil {
		return nil, err
	}
	wishes, err := fleet.Parse(data)
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if from != "-" {
		if dir, err = filepath.Abs(filepath.Dir(from)); err != nil {
			return nil, err
		}
	}
	return h.PlanFleet(wishes, dir, prune)
}

// applyPlans carries plans out and tells of each as it ends.
func (a *app) applyPlans(ctx context.Context, h *lifecycle.Host, plans []lifecycle.Plan, parallel int) error {
	var results []lifecycle.Plan
	failed := 0
	err := h.ApplyFleet(ctx, plans, parallel, func(p lifecycle.Plan) {
		results = append(results, p)
		if p.Error != "" {
			failed++
		}
		if !a.json {
			a.printApplied(p)
		}
	})
	if a.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	if err != nil {
		return &partialError{failed, len(plans), err}
	}
	return nil
}

func destroyed(plans []lifecycle.Plan) []string {
	var ids []string
	for _, p := range plans {
		if p.Steps[0] == "destroy" {
			ids = append(ids, p.Tenant)
		}
	}
	return ids
}

func (a *app) printPlans(plans []lifecycle.Plan) {
	for _, p := range plans {
		sign, color := "~", yellow
		switch p.Steps[0] {
		case "create":
			sign, color = "+", green
		case "destroy":
			sign, color = "-", red
		}
		fmt.Fprintln(a.Out, a.paint(color, fmt.Sprintf("%s %s: %s", sign, p.Tenant, strings.Join(p.Steps, ", "))))
		for _, d := range p.Diff {
			a.result("    %s", d)
		}
	}
}

func (a *app) printApplied(p lifecycle.Plan) {
	if p.Error != "" {
		fmt.Fprintf(a.plain(), "tenant %s: failed: %s\n", p.Tenant, p.Error)
		return
	}
	a.result("tenant %s: done", p.Tenant)
	for _, l := range p.Later {
		a.result("    %s", l)
	}
}
