package lifecycle

import (
	"context"
	"io"

	"github.com/auser/mvm/internal/archive"
	"github.com/auser/mvm/internal/ssh"
)

// CopyIn copies a file or folder of this host into the guest. Where to ends
// with a slash or is a folder there, it goes into it under its own name.
func (h *Host) CopyIn(ctx context.Context, from, id, to string) error {
	guest, err := h.guest(id)
	if err != nil {
		return err
	}
	return archive.CopyIn(ctx, guest, from, to)
}

// CopyOut copies a file or folder of the guest to this host.
func (h *Host) CopyOut(ctx context.Context, id, from, to string) error {
	guest, err := h.guest(id)
	if err != nil {
		return err
	}
	return archive.CopyOut(ctx, guest, from, to)
}

// guest runs commands in the tenant's guest.
func (h *Host) guest(id string) (archive.Guest, error) {
	target, err := h.Target(id)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, argv []string, in io.Reader, out, said io.Writer) (int, error) {
		return ssh.Run(ctx, target, ssh.Options{}, argv, ssh.Stdio{In: in, Out: out, Err: said})
	}, nil
}
