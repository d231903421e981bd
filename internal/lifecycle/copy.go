package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/auser/mvm/internal/archive"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/tenant"
)

// CopyIn copies a file or folder of this host into the guest. Where to ends
// with a slash or is a folder there, it goes into it under its own name.
func (h *Host) CopyIn(ctx context.Context, from, id, to string) error {
	target, err := h.Target(id)
	if err != nil {
		return err
	}
	if _, err := os.Stat(from); err != nil {
		return &tenant.InputError{Msg: err.Error(), Hint: "name a file or folder of this host"}
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	into := strings.HasSuffix(to, "/")
	if !into {
		code, err := ssh.Run(ctx, target, ssh.Options{}, []string{"test", "-d", to}, ssh.Stdio{})
		if err != nil {
			return err
		}
		into = code == 0
	}
	dir, name := path.Dir(to), path.Base(to)
	if into {
		dir, name = to, filepath.Base(abs)
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := archive.Pack(w, abs, name)
		w.CloseWithError(err)
		packed <- err
	}()
	var said strings.Builder
	code, err := ssh.Run(ctx, target, ssh.Options{}, []string{"sh", "-c", `mkdir -p "$1" && exec tar -x -f - -C "$1"`, "sh", dir}, ssh.Stdio{In: r, Err: &said})
	r.CloseWithError(errFull)
	return copied(code, said.String(), err, <-packed)
}

// CopyOut copies a file or folder of the guest to this host.
func (h *Host) CopyOut(ctx context.Context, id, from, to string) error {
	target, err := h.Target(id)
	if err != nil {
		return err
	}
	from = path.Clean(from)
	dir, name := filepath.Dir(to), filepath.Base(to)
	if info, err := os.Stat(to); err == nil && info.IsDir() || strings.HasSuffix(to, "/") {
		dir, name = to, path.Base(from)
	}
	if name == "/" || name == "." {
		return &tenant.InputError{Msg: fmt.Sprintf("%q has no name of its own", from), Hint: "name the file on this host that it is to become"}
	}
	r, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := archive.Unpack(r, dir, name)
		r.CloseWithError(err)
		unpacked <- err
	}()
	var said strings.Builder
	code, err := ssh.Run(ctx, target, ssh.Options{}, []string{"tar", "-c", "-f", "-", "-C", path.Dir(from), "--", path.Base(from)}, ssh.Stdio{Out: w, Err: &said})
	w.CloseWithError(err)
	return copied(code, said.String(), err, <-unpacked)
}

// errFull ends packing when the guest has ended.
var errFull = errors.New("the guest takes no more")

// copied says which end failed: this one, unless that is only the consequence
// of what the guest's did.
func copied(code int, said string, err, here error) error {
	if here != nil && !errors.Is(here, errFull) && !errors.Is(here, archive.ErrNothing) && (err == nil || !errors.Is(here, err)) {
		return here
	}
	if err != nil {
		return err
	}
	if code != 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
		return fmt.Errorf("the guest ended with %d: %s", code, clean(line))
	}
	return here
}

// clean takes out what could command a terminal: a guest said it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
