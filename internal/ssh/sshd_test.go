package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a network and mount namespace of their own, so
// that the sshd below is nobody else's.
func TestMain(m *testing.M) {
	const inside = "MVM_SSH_TEST_INSIDE"
	if os.Getenv(inside) != "" {
		if err := arrangeNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot arrange the test's namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWNET,
		Unshareflags: unix.CLONE_NEWNS, // makes all mounts private
		Pdeathsig:    syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "cannot run the tests in a namespace (root is needed):", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func arrangeNamespace() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	// sshd wants /run/sshd.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	return os.Mkdir("/run/sshd", 0o755)
}

// guest is an sshd set up as a guest has it: from GuestFiles alone.
func guest(t *testing.T, id string) Target {
	t.Helper()
	dir := filepath.Join(t.TempDir(), `100% "odd" folder`)
	if err := Ensure(dir, id); err != nil {
		t.Fatal(err)
	}
	secrets := t.TempDir()
	files, err := GuestFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(secrets, "ssh"), 0o500); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(secrets, "ssh", f.Name), f.Data, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null",
		"-o", fmt.Sprintf("ListenAddress=127.0.0.1:%d", port),
		"-o", "HostKey="+secrets+"/ssh/"+HostKey,
		"-o", "AuthorizedKeysFile="+secrets+"/ssh/authorized_keys",
		"-o", "StrictModes=no", // the test's folders lie below /tmp
		"-o", "AuthenticationMethods=publickey", "-o", "PermitRootLogin=prohibit-password",
		"-o", "PidFile=none", "-o", "UsePAM=no")
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed, as it says
		if t.Failed() {
			t.Logf("sshd: %s", log)
		}
	})
	target := Target{ID: id, Addr: "127.0.0.1", Port: port, Dir: dir}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Await(ctx, target, nil); err != nil {
		t.Fatal(err)
	}
	return target
}

func TestRunHandsOnWordsStreamsAndExitCode(t *testing.T) {
	target := guest(t, "acme")
	for _, code := range []int{0, 7, 127, 255} {
		var out, errout bytes.Buffer
		got, err := Run(t.Context(), target, Options{},
			[]string{"sh", "-c", `cat; printf '<%s>' "$@"; echo oops >&2; exit ` + fmt.Sprint(code), "sh", "a  b", "it's", "$HOME"},
			Stdio{strings.NewReader("in:"), &out, &errout})
		if err != nil || got != code {
			t.Errorf("exit %d: got %d, %v", code, got, err)
		}
		if out.String() != "in:<a  b><it's><$HOME>" || errout.String() != "oops\n" {
			t.Errorf("exit %d: out %q, err %q", code, &out, &errout)
		}
	}
	if code, err := Run(t.Context(), target, Options{}, []string{"no-such-command"}, Stdio{}); code != 127 || err != nil {
		t.Errorf("no such command: %d, %v", code, err)
	}
}

func TestRunGivesATerminal(t *testing.T) {
	target := guest(t, "acme")
	var out bytes.Buffer
	code, err := Run(t.Context(), target, Options{TTY: true}, []string{"tty"}, Stdio{Out: &out})
	if code != 0 || err != nil || !strings.HasPrefix(out.String(), "/dev/pts/") {
		t.Errorf("tty: %d, %v, %q", code, err, &out)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	target := guest(t, "acme")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := net.Pipe()
	defer r.Close()
	go func() {
		buf := make([]byte, 1)
		_, _ = r.Read(buf) // the command runs
		cancel()
	}()
	_, err := Run(ctx, target, Options{}, []string{"sh", "-c", "echo; sleep 60"}, Stdio{Out: w})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

// An idle standard input must not hold up a command that has ended.
func TestRunDoesNotWaitForStdin(t *testing.T) {
	target := guest(t, "acme")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	code, err := Run(t.Context(), target, Options{}, []string{"sh", "-c", "exit 3"}, Stdio{In: struct{ *os.File }{r}})
	if code != 3 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
}

func TestNothingListens(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, "acme"); err != nil {
		t.Fatal(err)
	}
	target := Target{ID: "acme", Addr: "127.0.0.1", Port: 1, Dir: dir}
	for name, call := range calls(target) {
		if err := call(t.Context()); !errors.Is(err, ErrConnection) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPatienceOfOneAttempt(t *testing.T) {
	if got := within(t.Context()); got.shake != handshakeTimeout {
		t.Errorf("without a deadline: %s", got.shake)
	}
	for end, want := range map[time.Duration]time.Duration{time.Second: handshakeTimeout, time.Hour: time.Hour / 2} {
		ctx, cancel := context.WithTimeout(t.Context(), end)
		defer cancel()
		if got := within(ctx).shake; got > want || got < want-time.Minute {
			t.Errorf("with a deadline in %s: %s, want %s", end, got, want)
		}
	}
}

func calls(target Target) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Await": func(ctx context.Context) error {
			return Await(ctx, target, func(err error) error { return err })
		},
		"Exec": func(ctx context.Context) error { _, err := Exec(ctx, target, "true"); return err },
		"Run": func(ctx context.Context) error {
			_, err := Run(ctx, target, Options{}, []string{"true"}, Stdio{})
			return err
		},
	}
}

// Neither a guest with another host key nor one that does not know the
// client's key is ever talked to.
func TestOnlyThePinnedPair(t *testing.T) {
	acme, other := guest(t, "acme"), guest(t, "acme")
	impostor := acme
	impostor.Port = other.Port
	for name, call := range calls(impostor) {
		if err := call(t.Context()); !errors.Is(err, ErrConnection) || !strings.Contains(strings.ToLower(err.Error()), "host key") {
			t.Errorf("%s with another host key: %v", name, err)
		}
	}
	for _, name := range []string{ClientKey, ClientKey + ".pub"} {
		if err := os.Remove(filepath.Join(acme.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Ensure(acme.Dir, "acme"); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls(acme) {
		if err := call(t.Context()); !errors.Is(err, ErrConnection) {
			t.Errorf("%s with an unknown client key: %v", name, err)
		}
	}
}

func TestMissingKeysAreNoConnectionProblem(t *testing.T) {
	target := Target{ID: "acme", Addr: "127.0.0.1", Port: 1, Dir: t.TempDir()}
	if err := Await(t.Context(), target, nil); err == nil || errors.Is(err, ErrConnection) {
		t.Errorf("err = %v", err)
	}
}

// A guest that takes the connection and stays silent is left when the
// context ends.
func TestAwaitIsBounded(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, "acme"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = Await(ctx, Target{ID: "acme", Addr: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Dir: dir}, nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("err = %v after %v", err, time.Since(start))
	}
}

// While a guest's network is not up yet, packets to it are lost: Await knocks
// again rather than have the kernel wait longer and longer.
func TestAwaitKnocksAgain(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, "acme"); err != nil {
		t.Fatal(err)
	}
	// A socket whose queue is full loses packets, too.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := bound.(*unix.SockaddrInet4).Port
	first, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	enough, knocks := errors.New("enough"), 0
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err = Await(ctx, Target{ID: "acme", Addr: "127.0.0.1", Port: port, Dir: dir}, func(err error) error {
		if knocks++; knocks == 5 {
			return enough
		}
		return nil
	})
	if err != enough {
		t.Errorf("after %d attempts: %v", knocks, err)
	}
}

func TestExec(t *testing.T) {
	target := guest(t, "acme")
	out, err := Exec(t.Context(), target, "sh", "-c", "echo one; echo 'two  words' >&2")
	if err != nil || !strings.Contains(out, "one") || !strings.Contains(out, "two  words") {
		t.Errorf("out %q, err %v", out, err)
	}
	_, err = Exec(t.Context(), target, "sh", "-c", "echo why; exit 7")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Output != "why" {
		t.Errorf("exit 7: %v", err)
	}
	_, err = Exec(t.Context(), target, "sh", "-c", "kill -TERM $$")
	if !errors.As(err, &exit) || exit.Signal != "TERM" {
		t.Errorf("killed: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Exec(ctx, target, "sleep", "60"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	// As after reboot: the connection goes while the command runs.
	if _, err := Exec(t.Context(), target, "sh", "-c", "kill -KILL $PPID"); !errors.Is(err, ErrNoStatus) {
		t.Errorf("connection gone: %v", err)
	}
	if out, err := Exec(t.Context(), target, "head", "-c", "1000000", "/dev/zero"); err != nil || len(out) > 16<<10 {
		t.Errorf("much output: %d bytes, %v", len(out), err)
	}
}
