package limacli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/lima"
)

// limaState is what mvm status says of the Lima VM.
type limaState struct {
	Name       string   `json:"name"`
	Status     string   `json:"status"` // limactl's word, or missing
	Tier       string   `json:"tier"`   // kvm or software; empty: not set up
	TierReason string   `json:"tier_reason"`
	Arch       string   `json:"arch"`
	VMType     string   `json:"vm_type"`
	Template   string   `json:"template"`
	Errors     []string `json:"errors"`
}

// status says how the Lima VM is and, where it runs, what mvm inside says. It
// starts no machine.
func (a *app) status(ctx context.Context, args []string) error {
	inst, err := a.vm.Look(ctx)
	if err != nil {
		return err
	}
	s, err := a.limaState(ctx, inst)
	if err != nil {
		return err
	}
	running := inst.Status == lima.StatusRunning
	if !wantsJSON(args) {
		a.printState(s)
		if !running {
			return nil
		}
		return a.proxy(ctx, args)
	}
	all := map[string]any{}
	if running {
		if err := a.askInside(ctx, args, &all); err != nil {
			return err
		}
	}
	all["lima"] = s
	return a.printJSON(all)
}

func wantsJSON(args []string) bool {
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}

// finding is what doctor says of a Lima VM that it cannot look inside of: as
// JSON, the one line of its report.
func (a *app) finding(args []string, err error) error {
	var e *lima.Error
	if !wantsJSON(args) || !errors.As(err, &e) {
		return err
	}
	type result struct {
		Check   string `json:"check"`
		Level   string `json:"level"`
		Found   string `json:"found"`
		Fix     string `json:"fix"`
		Fixable bool   `json:"fixable"`
	}
	return errors.Join(err, a.printJSON([]result{{Check: "Lima VM", Level: "failure", Found: e.Msg, Fix: e.Hint}}))
}

func (a *app) limaState(ctx context.Context, inst lima.Instance) (limaState, error) {
	s := limaState{Name: inst.Name, Status: or(inst.Status, "missing"), Arch: inst.Arch, VMType: inst.VMType, Template: inst.Template(), Errors: append([]string{}, inst.Errors...)}
	if inst.Status == lima.StatusMissing {
		return s, nil
	}
	settings, err := a.settings(setupOptions{})
	if err != nil || settings.Machine == "" {
		return s, err
	}
	host, err := lima.Detect(ctx, runtime.GOOS)
	if err != nil {
		return s, err
	}
	s.Tier, s.TierReason = settings.Machine.Tier(), host.Says(settings.Machine)
	return s, nil
}

// printState aligns with what mvm status prints inside.
func (a *app) printState(s limaState) {
	const line = "%-11s  %s\n"
	if s.Status == "missing" {
		fmt.Fprintf(a.out, line, "Lima VM", "none: mvm setup makes it")
		return
	}
	fmt.Fprintf(a.out, line, "Lima VM", s.Name+", "+strings.ToLower(s.Status))
	for _, e := range s.Errors {
		fmt.Fprintf(a.out, line, "", e)
	}
	fmt.Fprintf(a.out, line, "Lima tier", or(s.TierReason, "not decided: mvm setup"))
}

// askInside runs a command line inside and decodes the JSON that it prints.
func (a *app) askInside(ctx context.Context, args []string, to any) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot listen to the Lima VM: %w", err)
	}
	defer r.Close()
	type answer struct {
		data []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		data, err := io.ReadAll(r)
		read <- answer{data, err}
	}()
	err = a.proxyTo(ctx, args, w)
	w.Close()
	got := <-read
	if err != nil {
		return err
	}
	if got.err != nil {
		return fmt.Errorf("cannot read what mvm status says in the Lima VM: %w", got.err)
	}
	if err := json.Unmarshal(got.data, to); err != nil {
		return fmt.Errorf("cannot read what mvm status says in the Lima VM: %w", err)
	}
	return nil
}
