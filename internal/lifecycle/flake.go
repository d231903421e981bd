package lifecycle

import (
	"context"
	"path/filepath"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/flakecheck"
	"github.com/auser/mvm/internal/tenant"
)

// CheckFlake says which guests a flake offers and what is missing from them.
// ref is relative to dir, and so are the folders in inputs, each of which is
// <input>=<folder>. Nothing is built.
func (h *Host) CheckFlake(ctx context.Context, ref, dir string, inputs []string, o BuildOptions) (flakecheck.Report, error) {
	ref, err := absFlake(ref, dir)
	if err != nil {
		return flakecheck.Report{}, err
	}
	var overrides []build.InputOverride
	for _, text := range inputs {
		override, err := build.ParseInputOverride(text, dir)
		if err != nil {
			return flakecheck.Report{}, err
		}
		overrides = append(overrides, override)
	}
	queue, err := h.queue(ctx, evaluation, o.Progress)
	if err != nil {
		return flakecheck.Report{}, err
	}
	defer queue.Unlock()
	return flakecheck.Check(ctx, ref, func(ctx context.Context, ref, expr string) ([]byte, error) {
		req, err := h.requestFor(ctx, tenant.Spec{TenantID: evaluation, FlakeRef: ref}, noInstance, o)
		if err != nil {
			return nil, err
		}
		req.LogPath = filepath.Join(h.Store.BuildsDir(), evaluation+".log")
		return build.Evaluate(ctx, req, build.Evaluation{Expr: expr, Inputs: overrides}, o.Progress)
	})
}

const (
	// evaluation is the id under which flakes are evaluated. The builds of a
	// tenant that is called so queue behind it.
	evaluation = "flake-check"
	// noInstance keeps its store apart from every tenant's: theirs are random.
	noInstance = "0000000000000000"
)
