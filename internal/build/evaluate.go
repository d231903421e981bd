package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Evaluate applies expr, a Nix function, to the packages of the flake and
// returns what it yields, as JSON. It runs in a container as a build does, under
// the lock of the request's tenant, and leaves nothing, also not its store.
func Evaluate(ctx context.Context, req Request, expr string, progress Progress) (_ []byte, err error) {
	b, err := newBuilder(req, progress)
	if err != nil {
		return nil, err
	}
	b.only = expr
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
		_, rmErr := b.engine.output(context.WithoutCancel(ctx), volumeRemoveArgs(b.store().name(b.req.Scope))...)
		err = errors.Join(err, rmErr)
	}()
	if err := b.runContainer(ctx, out); err != nil {
		return nil, b.explain(ctx, out, err)
	}
	data, err := os.ReadFile(filepath.Join(out, "evaluated.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read what Nix evaluated: %w", err)
	}
	return data, nil
}
