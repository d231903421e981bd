package limacli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/fault"
)

// stopper is a limactl that stands still at its n-th call, before or after it
// has done what it was asked for, until it is ended.
const stopper = `#!/bin/sh
dir=${0%/*}
n=$(($(cat "$dir/calls") + 1))
echo $n >"$dir/calls"
stand() {
	if [ "$n $1" = "$MVM_TEST_STOP" ]; then
		echo "$n $1" >"$dir/reached"
		read -r _ <"$dir/never"
	fi
}
stand before
"$dir/limactl" "$@"
code=$?
stand after
exit $code
`

// stoppable is a world without a VM whose limactl can be made to stand still.
func stoppable(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for name, text := range map[string]string{"stopper": stopper, "calls": "0\n"} {
		if err := os.WriteFile(filepath.Join(w.bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"reached", "never"} {
		if err := unix.Mkfifo(filepath.Join(w.bin, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(w.env, "MVM_LIMACTL="+filepath.Join(w.bin, "stopper"))
	return w
}

// isSetUp runs setup to its end, and then a command inside.
func (w *world) isSetUp(t *testing.T, after string) {
	t.Helper()
	out, code := w.mvm(t, "", "setup", "--machine", "software")
	if code != 0 || !strings.Contains(out, `["setup" "--tier" "software"]`) {
		t.Errorf("%s: setup ends with %d: %s", after, code, out)
	}
	host, err := os.ReadFile(filepath.Join(w.bin, "mvm-host"))
	if err != nil {
		t.Fatal(err)
	}
	inside, err := os.ReadFile(w.home.Guest("mvm", "/usr/local/bin/mvm"))
	if err != nil || !bytes.Equal(host, inside) {
		t.Errorf("%s: the mvm inside is another one (%v)", after, err)
	}
	if left, err := filepath.Glob(filepath.Join(w.home.Guest("mvm", "/usr/local/bin"), ".mvm.*")); err != nil || len(left) > 0 {
		t.Errorf("%s: left behind: %v, %v", after, left, err)
	}
}

// TestInterruptedSetup cuts setup short before each call of limactl, and after
// those that change something. The same command, given again, does the rest.
func TestInterruptedSetup(t *testing.T) {
	w := stoppable(t)
	w.isSetUp(t, "undisturbed")
	data, err := os.ReadFile(filepath.Join(w.bin, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	calls, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || calls < 5 {
		t.Fatalf("setup called limactl %d times, %v", calls, err)
	}
	for n, argv := range w.home.Calls(t)[:calls] {
		cut(t, fmt.Sprintf("%d before", n+1), unix.SIGINT)
		if line := strings.Join(argv, " "); strings.HasPrefix(line, "start") || strings.Contains(line, "install -m 755") {
			cut(t, fmt.Sprintf("%d after", n+1), unix.SIGKILL) // the others change nothing
		}
	}
}

// cut cuts a setup short and gives it again.
func cut(t *testing.T, at string, with syscall.Signal) {
	t.Run(at, func(t *testing.T) {
		w := stoppable(t)
		w.cutShort(t, at, with)
		w.isSetUp(t, at)
	})
}

// cutShort starts setup, waits until limactl stands still, and sends a signal to
// all of it, as a terminal does.
func (w *world) cutShort(t *testing.T, at string, with syscall.Signal) {
	t.Helper()
	cmd := w.command("setup", "--machine", "software")
	cmd.Env = append(cmd.Env, "MVM_TEST_STOP="+at)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 10*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if cmd.ProcessState == nil {
			if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			t.Log(cmd.Wait())
		}
	}()
	// Both ends, so that this does not wait for one that never comes.
	reached, err := os.OpenFile(filepath.Join(w.bin, "reached"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reached.Close()
	if err := reached.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(reached).ReadString('\n'); err != nil || strings.TrimSpace(line) != at {
		t.Fatalf("%s: %q is reached, %v\n%s", at, line, err, said.String())
	}
	if err := unix.Kill(-cmd.Process.Pid, with); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%s: it was not cut short: %v\n%s", at, err, said.String())
	}
	if with == unix.SIGINT && exit.ExitCode() != fault.Interrupted {
		t.Errorf("%s: interrupted, it ends with %v:\n%s", at, err, said.String())
	}
}
