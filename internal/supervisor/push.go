package supervisor

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/jail"
	"github.com/auser/mvm/internal/volume"
)

// renewScript is the guest's part of a push.
//
//go:embed renew.sh
var renewScript string

// pushDeadline bounds a push, which emulated guests take some seconds for.
const pushDeadline = time.Minute

// push renews the secrets of the guest that runs. It holds up who wants to
// change the VM: a guest that was paused meanwhile would leave it half done.
func (s *supervisor) push(ctx context.Context, _ vmm.VM) (err error) {
	state, err := s.store.LoadState(s.t.ID)
	if err != nil {
		return err
	}
	files, err := s.secretFiles()
	if err != nil {
		return err
	}
	disk := filepath.Join(jail.Root(s.t.JailDir(), tenant.ShortHash(s.t.ID)), jail.Secrets)
	r, err := volume.Renew(ctx, disk, files)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	argv := []string{"sh", "-c", renewScript, "renew", fmt.Sprint(r.Old.Size), r.Old.SHA256, fmt.Sprint(r.New.Size), r.New.SHA256}
	target := ssh.Target{ID: s.t.ID, Addr: state.Net.IP, Dir: s.t.SSHDir()}
	return ssh.Converse(ctx, target, argv, func(in io.Writer, out io.Reader) error {
		return exchange(r.Swap, in, bufio.NewScanner(out))
	})
}

// exchange is the host's part of a push: swap exchanges the disk's content
// while the guest has let go of it, and again where the guest could not take
// the new one.
func exchange(swap func() error, in io.Writer, out *bufio.Scanner) error {
	if !out.Scan() {
		return nil // the guest's exit code says why
	}
	if err := swap(); err != nil {
		return errors.Join(err, swap())
	}
	said := ""
	if _, err := io.WriteString(in, "swapped\n"); err == nil && out.Scan() {
		said = strings.TrimSpace(out.Text())
	}
	if said == "new" {
		return nil
	}
	// The new content stays where nothing was heard: the guest has it, or
	// will when it looks again.
	if said == "" {
		return errors.New("the guest did not say which secrets it has: the connection broke")
	}
	if err := swap(); err != nil {
		return err
	}
	if said == "none" {
		if _, err := io.WriteString(in, "restored\n"); err != nil {
			return err
		}
		if !out.Scan() || strings.TrimSpace(out.Text()) != "old" {
			return errors.New("the guest can mount neither its new secrets nor those from before")
		}
	}
	return errors.New("the guest could not take the new secrets and has those from before")
}
