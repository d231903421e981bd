package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// ErrConnection is inside the error of a call whose connection to the guest
// could not be made or broke.
var ErrConnection = errors.New("no SSH connection")

// sshFailed is the exit code by which the ssh client reports its own failure.
// A remote command may end with it too.
const sshFailed = 255

// Stdio is what a remote command is connected to.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs argv in the guest with the system's ssh client, or a login shell
// where argv is empty, and returns the remote exit code. An error means that
// there is no such code, because the client could not do its work.
func Run(ctx context.Context, t Target, o Options, argv []string, stdio Stdio) (int, error) {
	code, said, err := run(ctx, Args(t, o, argv), stdio)
	switch {
	case ctx.Err() != nil && (err != nil || code == sshFailed):
		return sshFailed, fmt.Errorf("cannot run a command in %s over SSH: %w", t.ID, ctx.Err())
	case err != nil:
		return sshFailed, fmt.Errorf("cannot run ssh: %w", err)
	case code == sshFailed && said != "":
		return sshFailed, fmt.Errorf("cannot talk to %s over SSH: %w: %s", t.ID, ErrConnection, said)
	case said != "" && stdio.Err != nil:
		fmt.Fprintln(stdio.Err, said)
	}
	return code, nil
}

// run returns the ssh client's exit code and its own messages. They go
// through a pipe of their own (ssh -E), apart from what the remote command
// writes to standard error: only so can a client's failure be told from a
// command that ends with 255.
func run(ctx context.Context, args []string, stdio Stdio) (code int, said string, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, "", err
	}
	// ssh closes inherited descriptors first, so it opens the pipe by the name
	// that it has in this process.
	log := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), w.Fd())
	cmd := exec.CommandContext(ctx, "ssh", append([]string{"-E", log}, args...)...)
	cmd.Stdout, cmd.Stderr = stdio.Out, stdio.Err
	if err := connectStdin(cmd, stdio.In); err != nil {
		return 0, "", errors.Join(err, r.Close(), w.Close())
	}
	// On SIGTERM the client restores the terminal, which SIGKILL would not.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second

	messages := make(chan string, 1)
	go func() { messages <- readTail(r) }()
	err = cmd.Run()
	// The client is gone and so is this write end. A child that the client
	// left behind (ssh -f) must not hold up the end of file.
	pipeErr := errors.Join(w.Close(), r.SetReadDeadline(time.Now().Add(time.Second)))
	said = <-messages
	if pipeErr = errors.Join(pipeErr, r.Close()); pipeErr != nil {
		return 0, said, pipeErr
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), said, nil
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		// The client has ended; a child of it (ssh -f) holds on to its streams.
		return cmd.ProcessState.ExitCode(), said, nil
	}
	return 0, said, err
}

// connectStdin gives the client a file as it is, which an interactive session
// needs. Anything else is copied, and the copy may outlive the client while
// its reader blocks: nobody waits for it.
func connectStdin(cmd *exec.Cmd, in io.Reader) error {
	if _, isFile := in.(*os.File); isFile || in == nil {
		cmd.Stdin = in
		return nil
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		// A client that ends before it has read everything is no failure.
		_, _ = io.Copy(pipe, in)
		_ = pipe.Close()
	}()
	return nil
}

// readTail reads r to its end and returns the last of it as one line.
func readTail(r io.Reader) string {
	const max = 4096
	var kept []byte
	buf := make([]byte, 1024)
	for {
		n, err := r.Read(buf)
		kept = append(kept, buf[:n]...)
		kept = kept[len(kept)-min(len(kept), max):]
		if err != nil {
			break
		}
	}
	lines := strings.FieldsFunc(string(bytes.TrimSpace(kept)), func(c rune) bool { return c == '\n' || c == '\r' })
	return strings.Join(lines, "; ")
}
