package cli

import (
	"time"

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
		a.upgradeCommand(),
		a.versionCommand(),
	}
}

func (a *app) tenantCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "tenant",
		Short:   "Create, build, run and look after tenants",
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

// waitFlag adds --wait, which verbs that lock a tenant share.
func waitFlag(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", -1, "how long to wait for another command on the same tenant (default: limits.lock_timeout_sec)")
	cmd.Flags().Lookup("wait").DefValue = "0s" // the help leaves out what is zero
}

func applyWait(h *lifecycle.Host, wait time.Duration) {
	if wait >= 0 {
		h.Wait = wait
	}
}
