package lima

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// Command is one command line of mvm to run inside.
type Command struct {
	Args []string // without the program's name
	Env  []string // K=V
	Dir  string   // the same folder inside
	// In, Out and Err may be terminals.
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Signals are what reaches this process while the command runs.
	Signals <-chan os.Signal
}

// remoteScript runs inside, as root. The inner shell writes its pid and
// becomes the command, so that a second connection can signal it: without a
// terminal no signal crosses the first. The outer one turns a death by signal
// into 128+n, which ssh would report as 255, and leaves word of a true 255,
// which could not be told from a lost connection. What is typed at a terminal
// interrupts both shells with the command; the outer one stays to tell its code.
const remoteScript = `pidfile=$1 dir=$2
shift 2
trap : INT QUIT
mkdir -p "${pidfile%/*}" "$dir" && cd "$dir" || exit 1
sh -c 'echo $$ >"$0" && exec "$@"' "$pidfile" "$@"
code=$?
if [ "$code" = 255 ]; then echo 255 >"$pidfile.code"; fi
rm -f "$pidfile"
exit "$code"`

// signalScript waits for the command to be there and signals it. It gives up
// when the command has ended or never begins.
const signalScript = `pidfile=$1 signal=$2 tries=0
until [ -s "$pidfile" ]; do
  tries=$((tries + 1))
  [ "$tries" -le 50 ] || exit 1
  sleep 0.1
done
kill -s "$signal" "$(cat "$pidfile")"`

// codeScript reads and removes the word that remoteScript left.
const codeScript = `cat "$1" && rm -f "$1"`

// proxyDir is where the VM keeps the pids of proxied commands.
const proxyDir = "/run/mvm-proxy"

// exitLost is ssh's way to say that the connection failed.
const exitLost = 255

// Run executes c inside and returns its exit code, as if it had run here. The
// VM must be ready.
func (vm *VM) Run(ctx context.Context, c Command) (int, error) {
	pidfile := proxyDir + "/" + strings.ToLower(rand.Text())
	words := append([]string{"sudo", "env"}, c.Env...)
	words = append(words, "sh", "-c", remoteScript, "mvm", pidfile, c.Dir, "/usr/local/bin/mvm")
	words = append(words, c.Args...)

	cmd := exec.Command(vm.Limactl, vm.shell(words...)...)
	cmd.Stdout, cmd.Stderr = c.Out, c.Err
	// What limactl and ssh take to give the command a terminal.
	terminal := isTerminal(c.In) && isTerminal(c.Out)
	if err := connectStdin(cmd, c.In, terminal); err != nil {
		return 0, err
	}
	if !terminal {
		// Signals typed at the terminal are for the command inside, not for the
		// connection to it: they come to us and go on from here.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("cannot run limactl: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	untold, err := vm.attend(ctx, cmd, ended, c.Signals, pidfile)

	code, err := exitCode(err)
	if err != nil {
		return 0, fmt.Errorf("cannot run mvm in the Lima VM: %w", err)
	}
	if untold != 0 && code != 0 {
		return 128 + int(untold), nil
	}
	if code == exitLost {
		return vm.trueCode(ctx, pidfile)
	}
	return code, nil
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// connectStdin hands the file on, except for a terminal that has no peer
// inside: a process outside the terminal's foreground group must not read it.
func connectStdin(cmd *exec.Cmd, in io.Reader, terminal bool) error {
	if in == nil {
		return nil
	}
	if terminal || !isTerminal(in) {
		cmd.Stdin = in
		return nil
	}
	w, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("cannot connect standard input: %w", err)
	}
	go func() {
		// Ends at end of file or when the command has closed its side; a read
		// that is still waiting then ends with this process.
		_, _ = io.Copy(w, in)
		w.Close()
	}()
	return nil
}

// attend waits for the command's end and passes on signals until then. One that
// could not be passed on ended the connection instead, and is returned.
func (vm *VM) attend(ctx context.Context, cmd *exec.Cmd, ended <-chan error, signals <-chan os.Signal, pidfile string) (untold syscall.Signal, err error) {
	forwardCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan syscall.Signal, 1)
	for {
		select {
		case err := <-ended:
			return untold, err
		case sig := <-signals:
			name, ok := signalNames[sig]
			if !ok {
				continue
			}
			go func() {
				if _, err := vm.inside(forwardCtx, nil, "sudo", "sh", "-c", signalScript, "mvm", pidfile, name); err != nil {
					select {
					case failed <- sig.(syscall.Signal): // signalNames has no others
					default:
					}
				}
			}()
		case untold = <-failed:
			// The command cannot be told: do not leave who sent the signal
			// waiting. It is an error of its own if it has ended meanwhile.
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return untold, err
			}
		}
	}
}

var signalNames = map[os.Signal]string{
	syscall.SIGINT:  "INT",
	syscall.SIGTERM: "TERM",
	syscall.SIGHUP:  "HUP",
	syscall.SIGQUIT: "QUIT",
}

// ForwardedSignals are those that a proxied command gets.
func ForwardedSignals() []os.Signal {
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
}

// exitCode is the shell's code for how a process ended.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// trueCode finds out what 255 means: the command's own code, or a connection
// that was lost.
func (vm *VM) trueCode(ctx context.Context, pidfile string) (int, error) {
	out, err := vm.inside(context.WithoutCancel(ctx), nil, "sudo", "sh", "-c", codeScript, "mvm", pidfile+".code")
	if err == nil {
		if code, err := strconv.Atoi(strings.TrimSpace(out)); err == nil {
			return code, nil
		}
	}
	return 0, &Error{
		Msg:  "the connection to the Lima VM " + vm.Name + " was lost; the command may still run there",
		Hint: "look with mvm status, and run the command again: it goes on from where it is",
	}
}
