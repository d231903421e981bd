package cli

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/lifecycle"
)

// TestSeveralInterrupted has one tenant busy and interrupts the command that
// would stop three once some were stopped: the others are left as they are.
func TestSeveralInterrupted(t *testing.T) {
	for _, c := range []struct {
		ids, limit string
		stopped    []string // before the interrupt
		sum        string
	}{
		// The others do not wait for beta.
		{"beta acme gamma", "2", []string{"acme", "gamma"}, "cannot stop 1 of 3 tenants"},
		// One at a time, those after it do, and are never begun.
		{"acme beta gamma", "1", []string{"acme"}, "cannot stop 2 of 3 tenants"},
	} {
		t.Run(c.ids, func(t *testing.T) { interruptedStop(t, strings.Fields(c.ids), c.limit, c.stopped, c.sum) })
	}
}

func interruptedStop(t *testing.T, ids []string, limit string, stopped []string, sum string) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/flake.nix", []byte("{ outputs = _: { }; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := dir + "/root"
	for _, id := range ids {
		var said bytes.Buffer
		if code := Run(t.Context(), []string{"--root", root, "tenant", "create", id, "--flake", dir, "--data-size", "16"}, Streams{In: os.Stdin, Out: &said, Err: &said}); code != 0 {
			t.Fatalf("exit %d: %s", code, &said)
		}
	}
	h, err := lifecycle.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	busy, err := h.Store.LockTenant(t.Context(), "beta", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Unlock()
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // else one that waits for beta would hang
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	var said bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		defer w.Close()
		args := append([]string{"--root", root, "tenant", "stop", "--wait", "1h", "--parallel", limit}, ids...)
		ended <- Run(ctx, args, Streams{In: os.Stdin, Out: w, Err: &said})
	}()
	lines := bufio.NewScanner(out)
	for _, id := range stopped {
		if !lines.Scan() || lines.Text() != "tenant "+id+" does not run" {
			t.Errorf("it says %q, not that %s does not run", lines.Text(), id)
		}
	}
	interrupt()
	if code := <-ended; code != 130 || !strings.HasSuffix(said.String(), "mvm: "+sum+"\nhint: nothing is lost: the same command goes on from here\n") {
		t.Errorf("exit %d: %s", code, &said)
	}
	if lines.Scan() {
		t.Errorf("interrupted, it says %q", lines.Text())
	}
}
