// Package tmuxtest gives tests a real terminal, which is tmux's.
package tmuxtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/await"
)

// Terminal is one of 100 columns with a shell in it, whose prompt is READY:.
type Terminal struct {
	t      testing.TB
	socket string
}

// New opens a terminal. path is searched for programs before the usual folders;
// env are further variables of the shell, as NAME=value.
func New(t testing.TB, height int, path string, env ...string) *Terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Fatalf("tmux is needed: scripts/install-packages test (%v)", err)
	}
	dir := t.TempDir()
	term := &Terminal{t, filepath.Join(dir, "tmux")}
	words := append([]string{"env", "PS1=READY:", "PATH=" + path + ":" + os.Getenv("PATH")}, env...)
	term.Do(append([]string{"new-session", "-d", "-c", dir, "-x", "100", "-y", fmt.Sprint(height)}, append(words, "sh")...)...)
	t.Cleanup(func() { exec.Command("tmux", "-S", term.socket, "kill-server").Run() })
	term.See("READY:")
	return term
}

// Do has tmux do something and returns what it says.
func (term *Terminal) Do(args ...string) string {
	term.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-f", "/dev/null", "-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %s: %v: %s", args, err, out)
	}
	return string(out)
}

// Enter types a line.
func (term *Terminal) Enter(line string) {
	term.t.Helper()
	term.Do("send-keys", line, "Enter")
}

// patience is enough for guests that are emulated.
const patience = time.Minute

// See waits until something is on the screen.
func (term *Terminal) See(want string) {
	term.t.Helper()
	await.Until(term.t, patience, func() (bool, string) {
		screen := term.Do("capture-pane", "-p")
		return strings.Contains(screen, want), "no " + want + " on the screen:\n" + screen
	})
}

// SeeNo waits until something is no longer on the screen.
func (term *Terminal) SeeNo(what string) {
	term.t.Helper()
	await.Until(term.t, patience, func() (bool, string) {
		screen := term.Do("capture-pane", "-p")
		return !strings.Contains(screen, what), what + " is still on the screen:\n" + screen
	})
}
