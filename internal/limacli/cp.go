package limacli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/archive"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/lima"
)

// copying is a tenant cp: one side is a path of this host, so it is done here,
// with mvm tenant exec inside.
type copying struct {
	from, to string
	id       string
	root     []string // the flag that names the state directory inside
}

// findCopy looks for a tenant cp that makes sense. Of any other the mvm inside
// says what is wrong.
func findCopy(args []string) (c copying, ok bool) {
	if asksHelp(args) {
		return c, false
	}
	var words []string
	for i := 0; i < len(args); i++ {
		switch word := args[i]; {
		case word == "--root" && i+1 < len(args):
			i++
			c.root = []string{"--root", args[i]}
		case strings.HasPrefix(word, "--root="):
			c.root = []string{word}
		case slices.Contains([]string{"--", "-q", "--quiet", "--verbose", "--no-color"}, word):
		case strings.HasPrefix(word, "-"):
			return c, false
		default:
			words = append(words, word)
		}
	}
	if len(words) != 4 || words[0] != "tenant" && words[0] != "t" || words[1] != "cp" {
		return c, false
	}
	c.from, c.to = words[2], words[3]
	fromID, _, out := archive.GuestPath(c.from)
	toID, _, in := archive.GuestPath(c.to)
	c.id = fromID + toID
	return c, in != out
}

func (a *app) copy(ctx context.Context, c copying) error {
	if err := a.vm.Ensure(ctx); err != nil {
		return err
	}
	guest := func(ctx context.Context, argv []string, in io.Reader, out, said io.Writer) (int, error) {
		args := slices.Concat(c.root, []string{"tenant", "exec", c.id, "--"}, argv)
		return a.vm.Run(ctx, lima.Command{Args: args, Env: lima.Env(a.env), Dir: "/", In: in, Out: out, Err: said})
	}
	// Whether the guest can be reached: mvm itself says why not.
	if code, err := guest(ctx, []string{"true"}, nil, io.Discard, a.err); err != nil || code != 0 {
		if err == nil {
			err = &fault.Exit{Code: code}
		}
		return err
	}
	var err error
	if _, path, in := archive.GuestPath(c.to); in {
		err = archive.CopyIn(ctx, guest, c.from, path)
	} else {
		_, path, _ := archive.GuestPath(c.from)
		err = archive.CopyOut(ctx, guest, path, c.to)
	}
	if err != nil {
		return fmt.Errorf("cannot copy %s to %s: %w", c.from, c.to, err)
	}
	return nil
}
