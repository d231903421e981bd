package limacli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/lima/limatest"
)

// The test binary is also the programs that it tests with, by the name it is
// run under: limactl, mvm on the host, and the mvm that gets installed inside.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "limactl":
		os.Exit(limatest.Main(os.Args[1:]))
	case "mvm-host":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	case "mvm":
		os.Exit(guest(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// guest is the mvm inside: it shows what reaches it.
func guest(args []string) int {
	switch args[0] {
	case "show":
		dir, _ := os.Getwd()
		fmt.Printf("%q\n%s\n", args[1:], dir)
		for _, kv := range os.Environ() {
			fmt.Println(kv)
		}
	case "exit":
		code, _ := strconv.Atoi(args[1])
		return code
	case "die":
		n, _ := strconv.Atoi(args[1])
		syscall.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
		fmt.Fprint(os.Stderr, "said on stderr")
	case "trap":
		return trap()
	case "proxies":
		files, _ := os.ReadDir("/run/mvm-proxy")
		for _, f := range files {
			fmt.Println(f.Name())
		}
	case "status":
		data, err := os.ReadFile("/var/lib/status")
		if err != nil {
			data = []byte(`{"tier": "software", "dev": {"there": false}}`)
		}
		os.Stdout.Write(data)
	case "dev", "start", "doctor":
		fmt.Printf("%q\n", args)
	case "setup", "bootstrap", "gc", "destroy", "flake":
		fmt.Printf("%q\n", args)
	case "tenant":
		if args[1] == "show" {
			data, _ := os.ReadFile("/var/lib/spec-of-" + args[2])
			os.Stdout.Write(data)
			return 0
		}
		if args[1] == "list" {
			return list(args)
		}
		if args[1] == "exec" {
			return inGuest(args[2], args[4:])
		}
		fmt.Printf("%q\n", args)
		if i := slices.Index(args, "--from-file"); i >= 0 && args[i+1] == "-" {
			io.Copy(os.Stdout, os.Stdin)
		}
		if i := slices.Index(args, "--trace"); i >= 0 && !slices.Contains(args, "untraced") {
			os.WriteFile(args[i+1], []byte("a trace"), 0o600)
		}
		if slices.Contains(args, "fails") {
			return 9
		}
	case "apply":
		fmt.Printf("%q\n", args)
		io.Copy(os.Stdout, os.Stdin)
	}
	return 0
}

// list prints the file list of the state directory, or no tenants, and fails
// where that is empty.
func list(args []string) int {
	dir := "/var/lib"
	if i := slices.Index(args, "--root"); i >= 0 && args[i+1] != "/var/lib/mvm" {
		dir = args[i+1]
	}
	data, err := os.ReadFile(filepath.Join(dir, "list"))
	if err != nil {
		data = []byte("[]")
	}
	os.Stdout.Write(data)
	if len(data) == 0 {
		return 1
	}
	return 0
}

// inGuest runs a command with /var/lib/guest-<id> as the guest's folder.
func inGuest(id string, argv []string) int {
	if err := os.Chdir("/var/lib/guest-" + id); err != nil {
		fmt.Fprintf(os.Stderr, "mvm: no such tenant: %s\n", id)
		return 3
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Run()
	return cmd.ProcessState.ExitCode()
}

// trap says which signal it got, and window sizes, until a signal ends it.
func trap() int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGWINCH)
	size := func() string {
		w, h, err := term.GetSize(1)
		if err != nil {
			return "no terminal"
		}
		return fmt.Sprintf("%dx%d", w, h)
	}
	fmt.Println("ready", size())
	for sig := range signals {
		if sig == syscall.SIGWINCH {
			fmt.Println("size", size())
			continue
		}
		fmt.Println("got", sig)
		return 40 + int(sig.(syscall.Signal))
	}
	return 0
}

// world is a host with a limactl.
type world struct {
	home limatest.Home
	dir  string // the working directory
	env  []string
	bin  string
}

// newWorld is a world of its own for a test, which goes on beside others: they
// wait for processes more than they compute.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	home, env := limatest.New(t)
	w := hostWorld(t)
	w.home = home
	w.link(t, "limactl")
	w.env = append(w.env, env...)
	w.env = append(w.env, "MVM_LIMACTL="+filepath.Join(w.bin, "limactl"), "XDG_CONFIG_HOME="+t.TempDir())
	return w
}

// hostWorld is a host with mvm.
func hostWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), bin: t.TempDir(), env: os.Environ()}
	w.link(t, "mvm-host")
	return w
}

// link makes the test binary the program of that name.
func (w *world) link(t *testing.T, name string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(w.bin, name)); err != nil {
		t.Fatal(err)
	}
}

// ready is a world whose VM is set up.
func ready(t *testing.T) *world {
	w := newWorld(t)
	w.setUp(t)
	return w
}

func (w *world) setUp(t *testing.T) {
	t.Helper()
	if out, code := w.mvm(t, "", "setup", "--machine", "software"); code != 0 {
		t.Fatalf("setup ended with %d: %s", code, out)
	}
}

// configDir is where the user's programs keep their own files.
func (w *world) configDir(t *testing.T) string {
	t.Helper()
	for _, kv := range w.env {
		if dir, ok := strings.CutPrefix(kv, "XDG_CONFIG_HOME="); ok && strings.HasPrefix(dir, os.TempDir()) {
			return dir
		}
	}
	t.Fatal("there is no folder for settings")
	return ""
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(w.bin, "mvm-host"), args...)
	cmd.Dir, cmd.Env = w.dir, append(w.env, "PWD="+w.dir)
	return cmd
}

// mvm runs a command line and returns what it said on both streams.
func (w *world) mvm(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	cmd := w.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// proxyTests are what a proxied command is like, whatever limactl it is.
var proxyTests = map[string]func(*testing.T, *world){
	"words": wordsArriveExactly, "directory": workingDirectoryAndEnvironment, "codes": exitCodes,
	"streams": streams, "signals": signalsWithoutTerminal, "terminal": terminal,
}

func TestProxy(t *testing.T) {
	for name, test := range proxyTests {
		t.Run(name, func(t *testing.T) { test(t, ready(t)) })
	}
}

func wordsArriveExactly(t *testing.T, w *world) {
	words := []string{"show", "two words", "", "$HOME `id` $(id)", "a\nb", "'\"\\", "*", "K=V", "--", "-x", "--lima", "ü€"}
	out, code := w.mvm(t, "", words...)
	if want := fmt.Sprintf("%q\n", words[1:]); code != 0 || !strings.HasPrefix(out, want) {
		t.Errorf("exit %d, got %s\nwant %s", code, out, want)
	}
}

func workingDirectoryAndEnvironment(t *testing.T, w *world) {
	w.env = append(w.env, "MVM_WORD=two words", "LC_TIME=C", "SECRET_THING=hidden", "MVM_LIMA=1")
	out, _ := w.mvm(t, "", "show")
	if got := strings.Split(out, "\n")[1]; got != w.dir {
		t.Errorf("the working directory inside is %s, not %s", got, w.dir)
	}
	for _, want := range []string{"\nMVM_WORD=two words\n", "\nLC_TIME=C\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %s", want, out)
		}
	}
	for _, bad := range []string{"SECRET_THING", "MVM_LIMA="} {
		if strings.Contains(out, bad) {
			t.Errorf("%s got inside", bad)
		}
	}
}

func exitCodes(t *testing.T, w *world) {
	for _, code := range []int{0, 1, 2, 3, 5, 7, 126, 127, 130, 254, 255} {
		if out, got := w.mvm(t, "", "exit", strconv.Itoa(code)); got != code || out != "" {
			t.Errorf("exit %d became %d: %s", code, got, out)
		}
	}
	for _, sig := range []int{1, 2, 9, 15} {
		if out, got := w.mvm(t, "", "die", strconv.Itoa(sig)); got != 128+sig {
			t.Errorf("death by signal %d became %d: %s", sig, got, out)
		}
	}
}

func TestLostConnectionIsNoExitCode(t *testing.T) {
	w := ready(t)
	w.home.Set(t, "mvm", "lose", "1")
	out, code := w.mvm(t, "", "exit", "0")
	if code != 1 || !strings.Contains(out, "connection to the Lima VM mvm was lost") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func streams(t *testing.T, w *world) {
	data := bytes.Repeat([]byte("all bytes \x00\x01\xff\r\n"), 100_000)
	cmd := w.command("cat")
	cmd.Stdin = bytes.NewReader(data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, data) || stderr.String() != "said on stderr" {
		t.Errorf("%v, %d of %d bytes came back, stderr %q", err, len(out), len(data), stderr.String())
	}
}

func signalsWithoutTerminal(t *testing.T, w *world) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		cmd := w.command("trap")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		lines.Scan()
		if lines.Text() != "ready no terminal" {
			t.Fatalf("it says %q", lines.Text())
		}
		cmd.Process.Signal(sig)
		lines.Scan()
		if want := "got " + sig.String(); lines.Text() != want {
			t.Errorf("it says %q, not %q", lines.Text(), want)
		}
		io.Copy(io.Discard, stdout)
		cmd.Wait()
		if want := 40 + int(sig); cmd.ProcessState.ExitCode() != want {
			t.Errorf("%v: exit %d, want %d", sig, cmd.ProcessState.ExitCode(), want)
		}
	}
	if out, _ := w.mvm(t, "", "proxies"); strings.Count(out, "\n") != 1 { // its own
		t.Errorf("left inside: %s", out)
	}
}

func terminal(t *testing.T, w *world) {
	master, slave, err := limatest.OpenTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	resize := func(cols, rows uint16) {
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
			t.Fatal(err)
		}
	}
	resize(91, 37)
	cmd := w.command("trap")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	lines := bufio.NewScanner(master)
	expect := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.TrimPrefix(strings.TrimSpace(lines.Text()), "^C") == want { // the terminal echoes

				return
			}
			t.Logf("it says %q", lines.Text())
		}
		t.Fatalf("%q never came: %v", want, lines.Err())
	}
	expect("ready 91x37")
	resize(120, 50)
	expect("size 120x50")
	if _, err := master.WriteString("\x03"); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	expect("got interrupt")
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		cmd.Process.Kill()
		t.Fatal("it does not end")
	}
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("exit %d, want 42", code)
	}
}
