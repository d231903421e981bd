package lima

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// Detect looks at this machine.
func Detect(ctx context.Context, goos string) (Host, error) {
	if goos == "darwin" {
		profile, err := run.Output(ctx, "system_profiler", "-json", "SPHardwareDataType")
		if err != nil {
			return Host{}, fmt.Errorf("cannot tell which Mac this is: %w", err)
		}
		version, err := run.Output(ctx, "sw_vers", "-productVersion")
		if err != nil {
			return Host{}, fmt.Errorf("cannot tell which macOS this is: %w", err)
		}
		return ParseMac(profile, string(version))
	}
	machine, err := run.Output(ctx, "uname", "-m")
	if err != nil {
		return Host{}, fmt.Errorf("cannot tell which machine this is: %w", err)
	}
	usable, denied := openKVM()
	var nested []byte
	files, globErr := filepath.Glob("/sys/module/kvm_*/parameters/nested")
	if globErr != nil {
		return Host{}, globErr
	}
	for _, f := range files {
		if nested, globErr = os.ReadFile(f); globErr != nil {
			return Host{}, fmt.Errorf("cannot tell what this host's KVM offers: %w", globErr)
		}
	}
	h, err := ParseLinux(strings.TrimSpace(string(machine)), usable, string(nested))
	h.Denied = denied
	return h, err
}

// openKVM says whether this user can open /dev/kvm, or may not.
func openKVM() (usable, denied bool) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false, errors.Is(err, fs.ErrPermission)
	}
	f.Close()
	return true, false
}
