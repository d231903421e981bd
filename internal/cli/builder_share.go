package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) builderShare() *cobra.Command {
	return &cobra.Command{
		Use:   "share <id>",
		Short: "Sign what a trusted tenant's last build made and share it with all tenants' builds",
		Long: `Sign what a trusted tenant's last build made and share it with all tenants' builds.

The outputs, with all that they refer to, go to the folder build.shared_cache,
which builds see read-only. The key that signs them is made when it is first
needed and stays in the state directory; the public key is printed. Builds of
this host accept it; other hosts do when it is in their build.shared_cache_keys.
What nobody accepted has signed is built instead.`,
		Example: "  mvm builder share golden",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("share", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			key, err := h.Share(ctx, args[0])
			if err != nil {
				return err
			}
			a.note("builds of all tenants may now use what tenant %s has built, signed with", args[0])
			fmt.Fprintln(a.Out, key)
			return nil
		}),
	}
}
