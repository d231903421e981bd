package lifecycle

import (
	"context"
	"runtime"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm/firecracker/install"
)

// setUpVMM installs the release of Firecracker that was asked for and makes c
// name it. Killed anywhere, it is done again; nothing names a release that is
// not whole.
func (h *Host) setUpVMM(ctx context.Context, o SetupOptions, c *config.Config) error {
	if o.NoJail != nil {
		c.VMM.NoJailer = *o.NoJail
	}
	if o.Firecracker == "" {
		if o.SHA256 != "" || o.Unverified {
			return &tenant.InputError{Msg: "nothing is to be installed", Hint: "name it with --firecracker"}
		}
		return nil
	}
	lock, err := h.Store.LockVMMs(ctx, h.Wait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	done, err := install.Install(ctx, install.Options{
		Dir: h.Store.VMMDir(), Source: o.Firecracker, Arch: runtime.GOARCH, SHA256: o.SHA256, Unverified: o.Unverified,
	})
	detail := map[string]any{"source": o.Firecracker, "version": done.Version, "sha256": done.SHA256, "verified": done.Verified}
	if err := h.record("", "install firecracker", detail, err); err != nil {
		return &Error{Kind: ErrHost, Msg: err.Error(), Hint: installHint}
	}
	c.VMM.Firecracker, c.VMM.Jailer = done.Firecracker, done.Jailer
	return nil
}

const installHint = "offline, fetch the release's archive elsewhere and give its path; --firecracker-sha256 accepts one that is not pinned, --firecracker-unverified a folder"
