package lifecycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/run"
)

const (
	systemdRunning = "/run/systemd/system" // there where systemd is the init
	systemdUnits   = "/etc/systemd/system"
)

// unitName is the systemd unit that restores the tenants when the host starts.
const unitName = "mvm-reconcile.service"

// reconcileUnit renders that unit. The supervisors that reconcile starts stay
// in it after reconcile has ended. When the host shuts down, systemd asks them
// to stop: they stop their guests, which the next boot's reconcile starts.
//
// Of a oneshot unit that fails, or takes too long, systemd ends every process:
// one tenant that cannot be started would take all others down. So what reconcile
// says with its exit code, after it has done the rest, is no failure of the unit;
// the journal and mvm tenant list have it.
func reconcileUnit(program, root string) string {
	return fmt.Sprintf(`[Unit]
Description=Restore the mvm tenants of %[3]s
After=local-fs.target network.target nftables.service docker.service
RequiresMountsFor=%[4]s

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
SuccessExitStatus=1 2 3 4 5
TimeoutStopSec=5min
ExecStart=%[1]s --root %[2]s reconcile

[Install]
WantedBy=multi-user.target
`, unitWord(program), unitWord(root), unitText(root), unitWord(root))
}

// unitText escapes what systemd expands in a unit.
func unitText(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// unitWord quotes one word of a unit's command line.
func unitWord(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `$$`).Replace(unitText(s))
	return `"` + s + `"`
}

// installUnit puts the unit where systemd finds it and enables it, on hosts
// that systemd runs. It says whether anything changed. Another state directory
// than the host's own, such as a test's, gets none.
func (h *Host) installUnit(ctx context.Context) (changed bool, err error) {
	if _, err := os.Stat(systemdRunning); err != nil || h.Store.Scope != "" {
		return false, nil
	}
	program, err := os.Executable()
	if err != nil {
		return false, fmt.Errorf("cannot find this program for the systemd unit: %w", err)
	}
	path, want := filepath.Join(systemdUnits, unitName), reconcileUnit(program, h.Store.Root)
	have, err := os.ReadFile(path)
	if err == nil && string(have) == want {
		return false, nil
	}
	if err := atomicfile.Write(path, []byte(want), 0o644); err != nil {
		return false, err
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "--quiet", unitName}} {
		if err := run.Run(ctx, run.Command{Name: "systemctl", Args: args}); err != nil {
			return false, fmt.Errorf("cannot enable %s: %w", unitName, err)
		}
	}
	return true, nil
}
