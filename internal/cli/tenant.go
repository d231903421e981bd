package cli

import (
	"github.com/spf13/cobra"
)

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
		a.tenantRestart(),
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
