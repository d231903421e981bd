// Package limatest is a limactl to test against: it answers as Lima 2 does,
// with guests that are processes in a mount namespace with folders of their
// own. It needs root.
package limatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// homeVar says where the instances are.
const homeVar = "LIMATEST_HOME"

// Home is the folder of the instances.
type Home struct{ Dir string }

// New makes an empty home and the environment that limactl needs.
func New(t *testing.T) (Home, []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes mount namespaces: run it as root")
	}
	h := Home{Dir: t.TempDir()}
	return h, []string{homeVar + "=" + h.Dir}
}

// path names a file of the home.
func (h Home) path(parts ...string) string {
	return filepath.Join(append([]string{h.Dir}, parts...)...)
}

// Guest names a file inside the instance by its path there.
func (h Home) Guest(name, path string) string {
	for _, b := range binds {
		if rest, ok := strings.CutPrefix(path, b.inside); ok {
			return h.path(name, b.dir, rest)
		}
	}
	panic("limatest: " + path + " is not the instance's own")
}

// Set writes one of the knobs: status, boot (how many shells fail before the
// instance is ready), lose (the next shell with a pid file loses its
// connection), broken-provision (what the template's script says it cannot do),
// unreadable (limactl does not understand the instance's configuration; gone:
// there is none),
// refuse-start (what limactl start logs and fails with).
func (h Home) Set(t *testing.T, name, knob, value string) {
	t.Helper()
	if err := os.MkdirAll(h.path(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path(name, knob), []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h Home) get(name, knob string) string {
	data, err := os.ReadFile(h.path(name, knob))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func (h Home) put(name, knob, value string) {
	if err := os.WriteFile(h.path(name, knob), []byte(value), 0o600); err != nil {
		panic(err)
	}
}

// Calls lists the command lines that limactl was run with.
func (h Home) Calls(t *testing.T) [][]string {
	t.Helper()
	data, err := os.ReadFile(h.path("calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var calls [][]string
	for line := range strings.Lines(string(data)) {
		var argv []string
		if err := json.Unmarshal([]byte(line), &argv); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, argv)
	}
	return calls
}

// binds are the folders that an instance has for itself.
var binds = []struct{ dir, inside string }{
	{"bin", "/usr/local/bin"}, {"run", "/run"}, {"tmp", "/tmp"}, {"lib", "/var/lib"},
}

// Main is limactl. It returns the exit code.
func Main(args []string) int {
	h := Home{Dir: os.Getenv(homeVar)}
	h.log(args)
	jsonLog = slices.Contains(args, "--log-format=json")
	if len(args) > 0 && args[0] == "--tty=false" {
		args = args[1:]
	}
	if len(args) == 0 {
		return fail("no command")
	}
	switch args[0] {
	case "list":
		return h.list()
	case "start":
		return h.start(args[1:])
	case "stop":
		return h.stop(args[1:])
	case "delete":
		return h.remove(args[len(args)-1])
	case "shell":
		return h.shell(args[1:])
	}
	return fail("unknown command %q", args[0])
}

var jsonLog bool // how limactl was told to log

func logAs(level, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if !jsonLog {
		fmt.Fprintf(os.Stderr, "time=\"2026-01-01T00:00:00Z\" level=%s msg=%q\n", level, msg)
		return
	}
	line, err := json.Marshal(map[string]string{"level": level, "msg": msg, "time": "2026-01-01T00:00:00Z"})
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "%s\n", line)
}

func fail(format string, args ...any) int {
	logAs("fatal", format, args...)
	return 1
}

func (h Home) log(args []string) {
	f, err := os.OpenFile(h.path("calls"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	line, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

func (h Home) list() int {
	entries, err := os.ReadDir(h.Dir)
	if err != nil {
		return fail("%v", err)
	}
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	enc := json.NewEncoder(os.Stdout)
	for _, e := range entries {
		name := e.Name()
		if h.get(name, "status") == "" { // a file, or an instance to be that has knobs already
			continue
		}
		if how := h.get(name, "unreadable"); how != "" {
			// No configuration, and so nothing of what is in it. limactl marshals
			// errors as the Go values that they are, and takes away empty ones.
			inst := map[string]any{"name": name, "status": "", "dir": h.path(name), "vmType": "", "arch": "", "errors": []any{}}
			if how == "gone" {
				inst["status"] = "Broken"
				inst["errors"] = []any{map[string]any{"Op": "open", "Path": h.path(name, "lima.yaml"), "Err": 2}}
			}
			enc.Encode(inst)
			continue
		}
		inst := map[string]any{"name": name, "status": h.get(name, "status"), "dir": h.path(name), "arch": arch, "vmType": "qemu", "limaVersion": "2.2.0"}
		config := map[string]any{"vmType": "qemu", "arch": arch}
		if hash := h.get(name, "template"); hash != "" {
			inst["param"] = map[string]string{"MVM_TEMPLATE": hash}
			config["param"] = inst["param"]
		}
		inst["config"] = config
		enc.Encode(inst)
	}
	return 0
}

func (h Home) remove(name string) int {
	if _, err := os.Stat(h.path(name)); err != nil {
		logAs("warning", "Ignoring non-existent instance %q", name)
		return 0
	}
	if h.get(name, "unreadable") == "gone" {
		return fail("instance `%s` directory `%s` exists but its `lima.yaml` could not be read; it was NOT deleted", name, h.path(name))
	}
	if err := os.RemoveAll(h.path(name)); err != nil {
		return fail("%v", err)
	}
	logAs("info", "Deleted %q (%q)", name, h.path(name))
	return 0
}

// Foreign makes a running instance that mvm knows nothing of.
func (h Home) Foreign(t *testing.T, name string) {
	t.Helper()
	if err := h.furnish(name); err != nil {
		t.Fatal(err)
	}
	h.put(name, "status", "Running")
	h.provision(name)
}

// furnish makes what an instance has for itself.
func (h Home) furnish(name string) error {
	for _, b := range binds {
		if err := os.MkdirAll(h.path(name, b.dir), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(h.path(name, "bin", "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755)
}

var templateParam = regexp.MustCompile(`MVM_TEMPLATE: "([0-9a-f]+)"`)

func (h Home) start(args []string) int {
	name, file := "", ""
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--name":
			i++
			name = args[i]
		case args[i] == "--timeout":
			i++
		case !strings.HasPrefix(args[i], "-"):
			file = args[i]
		}
	}
	if name != "" && h.get(name, "status") != "" {
		return fail("instance %q already exists", name)
	}
	making := name != ""
	if !making {
		name = file
	}
	if why := h.get(name, "refuse-start"); why != "" {
		return fail("%s", why)
	}
	if !making {
		switch h.get(name, "status") {
		case "Stopped":
		case "Running":
			return 0 // it may boot still
		case "Broken":
			return fail("errors inspecting instance: [qemu driver is running but host agent is not]")
		default:
			return fail("instance %q does not exist", name)
		}
	} else {
		text, err := os.ReadFile(file)
		if err != nil {
			return fail("%v", err)
		}
		m := templateParam.FindSubmatch(text)
		if m == nil {
			return fail("the template has no hash")
		}
		if err := h.furnish(name); err != nil {
			return fail("%v", err)
		}
		h.put(name, "template", string(m[1]))
	}
	logAs("info", "Starting the instance %q with internal VM driver `qemu`", name)
	h.put(name, "status", "Running")
	h.provision(name)
	return 0 // also where provisioning fails
}

// provision writes the markers: the template's own, as its script does at its
// end, and Lima's.
func (h Home) provision(name string) {
	if h.get(name, "boot") != "" {
		return
	}
	hash, broken := h.get(name, "template"), h.get(name, "broken-provision")
	switch {
	case broken != "":
		h.put(name, "run/mvm-lima-failed", broken)
	case hash != "":
		h.put(name, "run/mvm-lima-ready", hash)
	}
	h.put(name, "run/lima-boot-done", "iid-1")
}

func (h Home) stop(args []string) int {
	name, force := args[len(args)-1], slices.Contains(args, "-f")
	status := h.get(name, "status")
	if status == "" || status != "Running" && !force {
		return fail("expected status \"Running\", got %q (maybe use `limactl stop -f`?)", status)
	}
	h.put(name, "status", "Stopped")
	for _, marker := range []string{"mvm-lima-ready", "mvm-lima-failed", "lima-boot-done"} {
		if err := os.RemoveAll(h.path(name, "run", marker)); err != nil {
			return fail("%v", err)
		}
	}
	return 0
}

func (h Home) shell(args []string) int {
	dir := "/"
	if len(args) > 1 && args[0] == "--workdir" {
		dir, args = args[1], args[2:]
	}
	if len(args) < 2 {
		return fail("no command to run")
	}
	name, args := args[0], args[1:]
	switch {
	case h.get(name, "unreadable") != "":
		return fail("instance %q has no configuration", name)
	case h.get(name, "status") == "":
		return fail("instance %q does not exist, run `limactl create %s` to create a new instance", name, name)
	case h.get(name, "status") == "Stopped":
		return fail("instance %q is stopped, run `limactl start %s` to start the instance", name, name)
	case h.get(name, "status") != "Running":
		fmt.Fprintln(os.Stderr, "ssh: connect to host 127.0.0.1 port 60022: Connection refused")
		return 255
	}
	if left, err := strconv.Atoi(h.get(name, "boot")); err == nil {
		if left--; left > 0 {
			h.put(name, "boot", strconv.Itoa(left))
			return 255
		}
		h.put(name, "boot", "")
		h.provision(name)
	}
	if args[0] == "--" {
		args = args[1:]
	}
	var env []string
	for len(args) > 0 && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	if strings.Contains(strings.Join(args, " "), "/run/mvm-proxy/") && h.get(name, "lose") != "" {
		h.put(name, "lose", "")
		return 255
	}
	return h.inside(name, dir, env, args)
}

// enter makes the instance's folders visible and becomes the command.
const enter = `home=$1 dir=$2
shift 2
mount --bind "$home/bin" /usr/local/bin && mount --bind "$home/lib" /var/lib && mount --bind "$home/run" /run || exit 255
exec 8<"$home/tmp"
mount --bind /proc/self/fd/8 /tmp || exit 255
exec 8<&-
cd "$dir" || exit 1
exec "$@"`

func (h Home) inside(name, dir string, env, args []string) int {
	words := append([]string{"--mount", "--propagation", "private", "sh", "-c", enter, "enter", h.path(name), dir}, args...)
	cmd := exec.Command("unshare", words...)
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, env...)
	if race, ok := os.LookupEnv("GORACE"); ok { // how long a program that is tested lingers at its end
		cmd.Env = append(cmd.Env, "GORACE="+race)
	}
	var err error
	if term.IsTerminal(0) && term.IsTerminal(1) {
		err = withTerminal(cmd)
	} else {
		err = withPipes(cmd)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	}
	return 255 // the remote died by a signal
}

// withPipes runs cmd as sshd does without a terminal: in a session of its own,
// which no signal reaches, and which goes on when the connection is lost.
func withPipes(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	// Pipes, so that what goes on inside holds none of the caller's files.
	cmd.Stdout, cmd.Stderr = plain{os.Stdout}, plain{os.Stderr}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		io.Copy(stdin, os.Stdin)
		stdin.Close()
	}()
	return cmd.Wait()
}

// plain hides that a file is one.
type plain struct{ io.Writer }

func withTerminal(cmd *exec.Cmd) error {
	master, slave, err := OpenTerminal()
	if err != nil {
		return err
	}
	defer master.Close()
	resize := func() {
		if size, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ); err == nil {
			unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, size)
		}
	}
	resize()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for range changed {
			resize()
		}
	}()
	old, err := term.MakeRaw(0)
	if err != nil {
		return err
	}
	defer term.Restore(0, old)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	slave.Close()
	go io.Copy(master, os.Stdin)
	io.Copy(os.Stdout, master) // ends with EIO when nobody has the other side
	return cmd.Wait()
}

// OpenTerminal makes a pair of pseudo-terminals.
func OpenTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	return master, slave, err
}
