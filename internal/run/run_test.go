package run

import (
	"context"
	"errors"
	"strings"
	"testing"
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
