package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestErrorNamesTheCommandAndItsLastWords(t *testing.T) {
	_, err := Output(t.Context(), "ls", "/does/not exist")
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("err = %v, want *Error", err)
	}
	if ExitCode(err) != 2 {
		t.Errorf("exit code = %d, want 2", ExitCode(err))
	}
	for _, want := range []string{`ls "/does/not exist"`, "No such file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestMissingCommand(t *testing.T) {
	_, err := Output(t.Context(), "no-such-command-here")
	if err == nil || ExitCode(err) != -1 {
		t.Fatalf("err = %v, exit code %d", err, ExitCode(err))
	}
}

func TestCancelledCommandSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Output(ctx, "sleep", "60")
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want context.Canceled", err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	w := &tailWriter{max: 4}
	for _, s := range []string{"abc", "defgh", "i"} {
		if _, err := w.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if w.String() != "fghi" {
		t.Errorf("tail = %q, want fghi", w.String())
	}
}

func TestInterrupted(t *testing.T) {
	for script, want := range map[string]bool{"kill -INT $$": true, "exit 130": true, "kill -TERM $$": false, "exit 2": false, "true": false} {
		err := Run(t.Context(), Command{Name: "sh", Args: []string{"-c", script}})
		if got := Interrupted(fmt.Errorf("cannot do that: %w", err)); got != want {
			t.Errorf("%s: %v, %t", script, err, got)
		}
	}
}

// A command with grace is asked to end, and killed when it does not.
func TestGrace(t *testing.T) {
	for trap, want := range map[string]string{"trap 'echo asked; exit 7' INT": "asked\n", "trap '' INT": ""} {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		var said bytes.Buffer
		read := make(chan error, 1)
		go func() {
			if _, err := r.Read(make([]byte, 8)); err == nil { // it has its trap
				cancel()
			}
			_, err := io.Copy(&said, r)
			read <- err
		}()
		err := Run(ctx, Command{Name: "sh", Args: []string{"-c", trap + "; echo ready; while :; do sleep 0.05; done"}, Stdout: w, Grace: 500 * time.Millisecond})
		if err := errors.Join(w.Close(), <-read); err != nil {
			t.Error(err)
		}
		if !errors.Is(err, context.Canceled) || said.String() != want {
			t.Errorf("%s: %v, %q", trap, err, said.String())
		}
	}
}
