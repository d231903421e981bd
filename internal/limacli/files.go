package limacli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/auser/mvm/internal/lima"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/userfile"
)

// input is what the command inside reads as standard input: this program's,
// or what the command line names instead.
func (a *app) input(ctx context.Context, in lima.Inputs, dir string) (*os.File, error) {
	f := a.in
	if in.Stdin != "" {
		var err error
		if f, err = userfile.Open(in.Stdin); err != nil {
			return nil, err
		}
	}
	switch {
	case in.Variable != "":
		for _, kv := range a.env {
			if name, value, _ := strings.Cut(kv, "="); name == in.Variable {
				return feed(value)
			}
		}
		return nil, &tenant.InputError{Msg: "the environment has no variable " + in.Variable, Hint: "export it first"}
	case !in.Fleet:
		return f, nil
	}
	name := "-"
	if in.Stdin != "" {
		defer f.Close()
		name, dir = in.Stdin, filepath.Dir(in.Stdin)
	}
	data, err := io.ReadAll(f)
	if err == nil {
		data, err = a.vm.BringFleet(ctx, data, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot apply %s: %w", name, err)
	}
	return feed(string(data))
}

// runTraced runs a command that writes a trace, also where it fails, and puts
// that into a file of this host.
func (a *app) runTraced(ctx context.Context, c lima.Command, in lima.Inputs) (err error) {
	f, err := userfile.Create(in.Trace) // before anything is started
	if err != nil {
		return fmt.Errorf("cannot write the trace: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	failed := a.runInside(ctx, c)
	trace, err := a.vm.TakeTrace(context.WithoutCancel(ctx), in)
	if err == nil {
		_, err = io.WriteString(f, trace)
	}
	if err == nil {
		return failed
	}
	if failed != nil { // what that says stands alone
		a.note("cannot write the trace: %v", err)
		return failed
	}
	return fmt.Errorf("cannot write the trace: %w", err)
}

// feed is a file to read text from.
func feed(text string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot feed the Lima VM: %w", err)
	}
	go func() {
		// Who does not read it to its end has said why.
		_, _ = io.WriteString(w, text)
		w.Close()
	}()
	return r, nil
}
