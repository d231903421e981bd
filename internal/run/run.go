// Package run executes external commands.
//
// It owns one thing: turning a failed command into an error that names the
// whole command line and the last words it said. It never uses a shell and
// knows nothing of what the commands do.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Command is one external command. Only Name is required.
type Command struct {
	Name   string
	Args   []string
	Dir    string
	Env    []string // nil inherits the environment
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer // what goes here is kept for the error, too

	// Grace has a command that is cancelled be sent SIGINT, and killed only when
	// it has not ended this much later; 0 kills at once.
	Grace time.Duration
}

// Error is a command that could not be run or ended with a failure.
type Error struct {
	Argv   []string
	Stderr string // the last of what the command wrote to standard error
	Err    error
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("%s: %v", Quote(e.Argv), e.Err)
	if e.Stderr != "" {
		msg += ": " + e.Stderr
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code inside err, or -1 where the command did not
// get as far as exiting.
func ExitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Interrupted says whether err is of a command that was interrupted. At a
// terminal it gets the same Ctrl-C as this process, and may be gone before this
// process has taken notice.
func Interrupted(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && (status.Signaled() && status.Signal() == syscall.SIGINT || status.ExitStatus() == 128+int(syscall.SIGINT))
}

// killDelay is how long a cancelled command may take to end after SIGKILL
// before its pipes are closed under it.
const killDelay = 2 * time.Second

// Run executes c and waits for it.
func Run(ctx context.Context, c Command) error {
	cmd := exec.CommandContext(ctx, c.Name, c.Args...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout = c.Dir, c.Env, c.Stdin, c.Stdout
	cmd.WaitDelay = killDelay
	if c.Grace > 0 {
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = c.Grace
	}
	tail := &tailWriter{max: 4096}
	cmd.Stderr = tail
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(tail, c.Stderr)
	}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return &Error{Argv: append([]string{c.Name}, c.Args...), Stderr: tail.String(), Err: err}
}

// Output runs name with args and returns what it wrote to standard output.
func Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := Run(ctx, Command{Name: name, Args: args, Stdout: &out})
	return out.Bytes(), err
}

// Quote renders argv as a person would type it.
func Quote(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$`&|;<>()*?[]{}~#!") {
			words[i] = strconv.Quote(a)
		}
	}
	return strings.Join(words, " ")
}

// tailWriter keeps the last max bytes written to it.
type tailWriter struct {
	max int
	buf []byte
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > t.max {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.max:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string { return strings.TrimSpace(string(t.buf)) }
