package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantBuild() *cobra.Command {
	var opts lifecycle.BuildOptions
	cmd := &cobra.Command{
		Use:   "build <id>",
		Short: "Build a tenant's guest from its flake, in a throw-away container",
		Example: `  mvm tenant build acme
  mvm tenant build acme --offline --check`,
		Args: exactArgs(1, "one tenant id"),
		RunE: a.onTenant("build", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			progress, stop := a.followBuild("building " + args[0])
			opts.Progress = progress
			manifest, result, err := h.Build(ctx, args[0], opts)
			stop()
			if err != nil {
				return err
			}
			for _, w := range result.Warnings {
				a.note("warning: %s", w)
			}
			if result.UpToDate {
				a.result("tenant %s is up to date: image %.12s", args[0], manifest.Image)
				return nil
			}
			a.result("tenant %s built in %s: image %.12s", args[0], seconds(result.Elapsed), manifest.Image)
			return nil
		}),
	}
	f := cmd.Flags()
	engineFlag(cmd, &opts.Engine)
	f.BoolVar(&opts.Offline, "offline", false, "build without network")
	f.BoolVar(&opts.Force, "force", false, "build even if nothing changed")
	f.BoolVar(&opts.Check, "check", false, "build twice and compare bit for bit")
	f.BoolVar(&opts.RequireLock, "require-lock", false, "refuse a flake without a complete flake.lock")
	f.BoolVar(&opts.FreshStore, "fresh-store", false, "throw the tenant's Nix store away first, so that nothing an earlier build left can matter")
	f.BoolVar(&opts.NoSandbox, "no-sandbox", false, "give up Nix's own sandbox: builders then share the container with one another")
	return cmd
}
