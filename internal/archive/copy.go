package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/auser/mvm/internal/tenant"
)

// Guest runs a command in a guest and returns its exit code.
type Guest func(ctx context.Context, argv []string, in io.Reader, out, said io.Writer) (code int, err error)

// GuestPath splits <id>:<path>.
func GuestPath(arg string) (id, path string, ok bool) {
	id, path, ok = strings.Cut(arg, ":")
	if !ok || path == "" || tenant.CheckID(id) != nil {
		return "", "", false
	}
	return id, path, true
}

// CopyIn copies a file or folder of this host into the guest. Where to ends
// with a slash or is a folder there, it goes into it under its own name.
func CopyIn(ctx context.Context, guest Guest, from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return &tenant.InputError{Msg: err.Error(), Hint: "name a file or folder of this host"}
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	into := strings.HasSuffix(to, "/")
	if !into {
		code, err := guest(ctx, []string{"test", "-d", to}, nil, io.Discard, io.Discard)
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
		err := Pack(w, abs, name)
		w.CloseWithError(err)
		packed <- err
	}()
	var said strings.Builder
	code, err := guest(ctx, []string{"sh", "-c", `mkdir -p "$1" && exec tar -x -f - -C "$1"`, "sh", dir}, r, io.Discard, &said)
	r.CloseWithError(errFull)
	return copied(code, said.String(), err, <-packed)
}

// CopyOut copies a file or folder of the guest to this host.
func CopyOut(ctx context.Context, guest Guest, from, to string) error {
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
		err := Unpack(r, dir, name)
		r.CloseWithError(err)
		unpacked <- err
	}()
	var said strings.Builder
	code, err := guest(ctx, []string{"tar", "-c", "-f", "-", "-C", path.Dir(from), "--", path.Base(from)}, nil, w, &said)
	w.CloseWithError(err)
	return copied(code, said.String(), err, <-unpacked)
}

// errFull ends packing when the guest has ended.
var errFull = errors.New("the guest takes no more")

// copied says which end failed: this one, unless that is only the consequence
// of what the guest's did.
func copied(code int, said string, err, here error) error {
	if here != nil && !errors.Is(here, errFull) && !errors.Is(here, ErrNothing) && (err == nil || !errors.Is(here, err)) {
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
