package volume

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/run"
)

// tool is one call of a program of e2fsprogs on one image.
type tool struct {
	name  string
	args  []string // imageArg stands for the image
	image *os.File
	stdin string

	// asOwner runs the program as the user that owns the image. It is for
	// images that a guest has written: what is in there may attack the program.
	asOwner bool
}

// imageArg is the image as a tool sees it: the first descriptor after the
// standard ones. So it works on the very file that was opened and, where that
// is locked, locked, and the lock lasts as long as the tool.
const imageArg = "/proc/self/fd/3"

// toolKillDelay is how long a cancelled tool may take to end after SIGTERM.
const toolKillDelay = 5 * time.Second

// run executes the tool. What it prints is returned, cleaned of what a
// terminal could take for a command, also with an error.
func (t tool) run(ctx context.Context) (stdout, stderr string, err error) {
	argv, err := t.argv()
	if err != nil {
		return "", "", err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// Neither the host's mke2fs.conf nor its language has a say.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "MKE2FS_CONFIG=/dev/null", "E2FSCK_CONFIG=/dev/null", "E2FSPROGS_UNDO_DIR=none"}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{t.image}
	if t.stdin != "" {
		cmd.Stdin = strings.NewReader(t.stdin)
	}
	out, errout := &tail{max: 64 << 10}, &tail{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, errout
	// e2fsck ends cleanly on SIGTERM; a tool must not outlive its caller and
	// go on writing under the next one.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = toolKillDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if t.asOwner {
		stat, err := statOf(t.image)
		if err != nil {
			return "", "", err
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
	}
	// The death signal is sent when the thread ends that started the tool.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	stdout, stderr = printable(out.buf), printable(errout.buf)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		err = &run.Error{Argv: append([]string{t.name}, t.args...), Stderr: t.essence(stdout + "\n" + stderr), Err: err}
	}
	return stdout, stderr, err
}

// argv is the tool's command line, wrapped in limits on what it can take where
// the image is a guest's work.
func (t tool) argv() ([]string, error) {
	program, err := lookTool(t.name)
	if err != nil {
		return nil, err
	}
	argv := append([]string{program}, t.args...)
	if !t.asOwner {
		return argv, nil
	}
	limiter, err := lookTool("prlimit")
	if err != nil {
		return nil, err
	}
	limits, err := limitsFor(t.image)
	if err != nil {
		return nil, err
	}
	return append(append([]string{limiter}, limits...), argv...), nil
}

// limitsFor are the options of prlimit for a tool that works on image: memory
// and time that are ample for a sane one, no growing file, no core file.
func limitsFor(image *os.File) ([]string, error) {
	stat, err := statOf(image)
	if err != nil {
		return nil, err
	}
	size := uint64(stat.Size)
	limits := []string{"--core=0:0"}
	for _, limit := range []struct {
		name  string
		which int
		value uint64
	}{
		{"as", unix.RLIMIT_AS, toolMemory + size/4096},
		{"fsize", unix.RLIMIT_FSIZE, size},
		{"cpu", unix.RLIMIT_CPU, toolSeconds + size>>30},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(limit.which, &now); err != nil {
			return nil, fmt.Errorf("cannot read the limit %s: %w", limit.name, err)
		}
		value, most := min(limit.value, now.Max), limit.value // a limit can't be raised
		if limit.which == unix.RLIMIT_CPU {
			most++ // at the most it is killed, before by a signal that says why
		}
		limits = append(limits, fmt.Sprintf("--%s=%d:%d", limit.name, value, min(most, now.Max)))
	}
	return limits, nil
}

// toolMemory is what e2fsck may take, besides its maps of an image's blocks.
const toolMemory = 1 << 30

// toolSeconds is how long it may compute, and a second for each GiB on top: it
// runs outside of the guest's cgroup, on an image that the guest may have made to
// keep it busy for ever.
const toolSeconds = 600

// lookTool finds a program that may be outside of an ordinary user's PATH.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (e2fsprogs and util-linux are needed)", name)
}

// tail keeps the last max bytes written to it.
type tail struct {
	max int
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

var _ io.Writer = (*tail)(nil)

// printable drops control characters: names and labels in an image are the
// guest's choice, and the text ends up on a terminal.
func printable(text []byte) string {
	clean := strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(string(text), "?"))
	return strings.TrimSpace(clean)
}

// essence is what matters in a tool's words: not its version, the passes it
// goes through or the blank lines between, and not all where that is much.
func (t tool) essence(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Pass ") || strings.HasPrefix(line, t.name+" 1.") {
			continue
		}
		if len(lines) == 10 {
			return strings.Join(lines, "\n") + "\n…"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
