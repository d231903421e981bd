package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

// commands lists the verbs as they appear in the help.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.bootstrapCommand(),
		a.setupCommand(),
		a.devCommand(),
		a.startCommand(),
		a.devStop(),
		a.devSSH(),
		a.statusCommand(),
		a.devDestroy(),
		a.tenantCommand(),
		a.builderCommand(),
		a.flakeCommand(),
		a.applyCommand(),
		a.exportCommand(),
		a.netCommand(),
		a.retainedCommand(),
		a.gcCommand(),
		a.topCommand(),
		a.metricsCommand(),
		a.syncCommand(),
		a.doctorCommand(),
		a.reconcileCommand(),
		a.auditCommand(),
		a.superviseCommand(),
		a.completionCommand(),
		a.helpCommand(),
		a.upgradeCommand(),
		a.versionCommand(),
	}
}

func (a *app) tenantCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "tenant",
		Short: "Create, build, run and look after tenants",
		Example: `  mvm tenant create acme --flake ./nix/debian --profile minimal
  mvm tenant build acme
  mvm tenant run acme
  mvm tenant ssh acme`,
		Aliases: []string{"t"},
	})
	cmd.AddCommand(
		a.tenantCreate(),
		a.tenantBuild(),
		a.tenantRun(),
		a.tenantSSH(),
		a.tenantExec(),
		a.tenantCp(),
		a.tenantPortForward(),
		a.tenantSSHConfig(),
		a.tenantStop(),
		a.tenantPause(),
		a.tenantResume(),
		a.tenantDestroy(),
		a.tenantList(),
		a.tenantShow(),
		a.tenantSet(),
		a.tenantLogs(),
		a.tenantConsole(),
		a.tenantStats(),
		a.tenantSecrets(),
		a.tenantVolume(),
		a.tenantVerify(),
	)
	return cmd
}

// host opens the state directory for a verb. Whatever is being done is told on
// standard error.
func (a *app) host() (*lifecycle.Host, error) {
	h, err := lifecycle.Open(a.root)
	if err != nil {
		return nil, err
	}
	h.Say = a.note
	return h, nil
}

// onTenant is the body of a verb that does one thing with one tenant, whose id
// is the first argument: it opens the host, minds --wait and words the error.
func (a *app) onTenant(what string, do func(ctx context.Context, h *lifecycle.Host, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		h, err := a.host()
		if err != nil {
			return err
		}
		if f := cmd.Flags().Lookup("wait"); f != nil && f.Changed {
			if h.Wait, err = cmd.Flags().GetDuration("wait"); err != nil {
				return err
			}
		}
		if err := do(cmd.Context(), h, args); err != nil {
			return fmt.Errorf("cannot %s tenant %s: %w", what, args[0], err)
		}
		return nil
	}
}

// waitFlag adds --wait, which verbs that lock a tenant share.
func waitFlag(cmd *cobra.Command) {
	cmd.Flags().Duration("wait", 0, "how long to wait for another command on the same tenant (default: limits.lock_timeout_sec)")
}

// yesFlag adds --yes, which everything has that destroys.
func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}
