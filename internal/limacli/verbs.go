package limacli

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/buildinfo"
	"github.com/auser/mvm/internal/lima"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/upgrade"
)

func (a *app) syncCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sync [flake…]",
		Short: "Copy local flakes into the Lima VM, to the same paths",
		Long: `Copy local flakes into the Lima VM, to the same paths, and do nothing else.

Commands that build do this by themselves. A source that has not changed since
is not sent again.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			dir, err := os.Getwd()
			if err != nil {
				return fmt.Errorf("cannot tell the working directory: %w", err)
			}
			if err := a.vm.Ensure(cmd.Context()); err != nil {
				return err
			}
			for _, ref := range args {
				if !lima.IsLocal(ref) {
					return &tenant.InputError{Msg: fmt.Sprintf("%q names no folder of this host", ref), Hint: "write ./name for a folder"}
				}
				s, err := a.vm.Sync(cmd.Context(), ref, dir)
				if err != nil {
					return err
				}
				state := "is there already"
				if s.Sent {
					state = "copied"
				}
				fmt.Fprintf(a.out, "%s %s: %.12s\n", s.Top, state, s.Hash)
			}
			return nil
		},
	}
}

func (a *app) limaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lima",
		Short: "Show, stop or delete the Lima VM itself",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.limaStatus(), a.limaStop(), a.limaDelete())
	return cmd
}

func (a *app) limaStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the Lima VM is there and runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := a.vm.Look(cmd.Context())
			if err != nil {
				return err
			}
			status := or(inst.Status, "missing")
			if asJSON {
				return a.printJSON(map[string]any{"name": inst.Name, "status": status, "arch": inst.Arch, "vm_type": inst.VMType, "template": inst.Template(), "errors": append([]string{}, inst.Errors...)})
			}
			fmt.Fprintf(a.out, "Lima VM %s: %s\n", inst.Name, status)
			for _, e := range inst.Errors {
				fmt.Fprintf(a.out, "  %s\n", e)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) limaStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop the Lima VM and everything that runs in it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			already, err := a.vm.Stop(cmd.Context())
			if err != nil {
				return err
			}
			if already {
				fmt.Fprintf(a.out, "the Lima VM %s does not run\n", a.vm.Name)
			} else {
				fmt.Fprintf(a.out, "the Lima VM %s is stopped\n", a.vm.Name)
			}
			return nil
		},
	}
}

func (a *app) limaDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete",
		Short: "Delete the Lima VM with everything in it: tenants, their data, images",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return &tenant.InputError{Msg: "deleting the Lima VM loses every tenant in it and their data", Hint: "say so with --yes"}
			}
			if err := a.vm.Delete(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "the Lima VM %s is deleted\n", a.vm.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func (a *app) upgradeCommand() *cobra.Command {
	var check, asJSON bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace mvm by the newest release, after verifying its signature and checksum",
		Long: `Replace mvm by the newest release, after verifying its signature and checksum.

The Linux builds beside it are replaced, too; the next command brings the new
one into the Lima VM. MVM_RELEASE_URL names a mirror.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := upgrade.Self(cmd.Context(), os.Getenv("MVM_RELEASE_URL"), check)
			if err != nil {
				return fmt.Errorf("cannot upgrade: %w", err)
			}
			if asJSON {
				return a.printJSON(done)
			}
			fmt.Fprintln(a.out, done)
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only say whether there is a newer one")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildinfo.Get()
			if asJSON {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.out, "mvm %s %s/%s\n", v.Version, v.OS, v.Arch)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
