package volume

import (
	"context"
	"errors"
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
	path, err := lookTool(t.name)
	if err != nil {
		return "", "", err
	}
	cmd := exec.CommandContext(ctx, path, t.args...)
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
		if cmd.SysProcAttr.Credential, err = owner(t.image); err != nil {
			return "", "", err
		}
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
		said := stderr
		if said == "" || strings.Count(said, "\n") == 0 && strings.HasPrefix(said, t.name+" ") {
			said = stdout // e2fsck tells its findings there, and its version on stderr
		}
		err = &run.Error{Argv: append([]string{t.name}, t.args...), Stderr: lastLines(said, 5), Err: err}
	}
	return stdout, stderr, err
}

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
	return "", fmt.Errorf("%s is not installed (it is part of e2fsprogs)", name)
}

// owner is the user that owns f, without any further group.
func owner(f *os.File) (*syscall.Credential, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("the file has no owner")
	}
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}, nil
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
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(string(text), "?"))
	return strings.TrimSpace(clean)
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
