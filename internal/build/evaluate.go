package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Evaluation is a question to a flake.
type Evaluation struct {
	Expr   string          // a Nix function of the flake's packages, for all systems
	Inputs []InputOverride // inputs that are taken from this host
}

// InputOverride has an input of a flake taken from a folder of this host,
// whatever the flake and its lock say. The folder is not copied beforehand.
type InputOverride struct {
	Input  string // its name, or input/input for one of another's
	Folder string // absolute
}

var inputPath = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_-]*(/[a-zA-Z0-9_][a-zA-Z0-9_-]*)*$`)

// ParseInputOverride reads <input>=<folder>; a relative folder is taken from dir.
func ParseInputOverride(text, dir string) (InputOverride, error) {
	const hint = "write it as nixpkgs=/path/to/nixpkgs"
	input, folder, ok := strings.Cut(text, "=")
	if !ok || folder == "" || !inputPath.MatchString(input) {
		return InputOverride{}, &Error{Kind: ErrInput, Msg: fmt.Sprintf("cannot override a flake's input with %q", text), Hint: hint}
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(dir, folder)
	}
	info, err := os.Stat(folder)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", folder)
	}
	if err != nil {
		return InputOverride{}, &Error{Kind: ErrInput, Msg: "cannot override the flake's input " + input, Err: err, Hint: hint}
	}
	return InputOverride{Input: input, Folder: filepath.Clean(folder)}, nil
}

// inputTarget is where the container finds the n-th input that is overridden.
func inputTarget(n int) string { return "/inputs/" + strconv.Itoa(n) }

// Evaluate applies what e asks to the packages of the flake and returns what it
// yields, as JSON. It runs in a container as a build does, under the lock of
// the request's tenant, and leaves nothing, also not its store.
func Evaluate(ctx context.Context, req Request, e Evaluation, progress Progress) (_ []byte, err error) {
	b, err := newBuilder(req, progress)
	if err != nil {
		return nil, err
	}
	b.only = &e
	held, err := b.takeSource(ctx)
	if err != nil {
		return nil, err
	}
	if held != nil {
		defer held.Close()
	}
	if err := b.findEngine(ctx); err != nil {
		return nil, err
	}
	logFile, err := openLog(b.req.LogPath)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	b.log = newNixLog(b.collect, logFile, b.started)
	out, err := b.outFolder()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(filepath.Dir(out)) // a failure is swept by the next one
	defer func() {
		err = errors.Join(err, b.engine.removeVolume(context.WithoutCancel(ctx), b.store().name(b.req.Scope)))
	}()
	if err := b.runContainer(ctx, out); err != nil {
		return nil, b.explain(ctx, out, err)
	}
	data, err := readBounded(filepath.Join(out, "evaluated.json"), maxReport)
	if err != nil {
		return nil, fmt.Errorf("cannot read what Nix evaluated: %w", err)
	}
	return data, nil
}
