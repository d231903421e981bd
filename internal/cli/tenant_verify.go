package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "verify <id>",
		Short:   "Read every byte of a tenant's artifacts and compare it with what was built",
		Example: "  mvm tenant verify acme",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("verify", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			m, err := h.Verify(ctx, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(m)
			}
			for _, f := range m.Artifacts {
				a.result("%s  %s", f.SHA256, f.Name)
			}
			a.note("the artifacts of tenant %s are those that were built, image %.12s", args[0], m.Image)
			return nil
		}),
	}
	a.jsonFlag(cmd, build.Manifest{})
	return cmd
}
