package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// terminal is a tmux session: a real terminal of 100 by 30.
type terminal struct {
	t      *testing.T
	socket string
}

func newTerminal(t *testing.T, e *env) *terminal {
	t.Helper()
	term := &terminal{t, filepath.Join(t.TempDir(), "tmux")}
	term.tmux("new-session", "-d", "-c", t.TempDir(), "-x", "100", "-y", "30", "env", "PS1=READY:", "PATH="+e.bin+":"+os.Getenv("PATH"), "MVM_ROOT="+e.root, "sh")
	t.Cleanup(func() { exec.Command("tmux", "-S", term.socket, "kill-server").Run() })
	term.see("READY:")
	return term
}

func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-f", "/dev/null", "-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %s: %v: %s", args, err, out)
	}
	return string(out)
}

func (term *terminal) enter(line string) { term.t.Helper(); term.tmux("send-keys", line, "Enter") }

func (term *terminal) see(want string) {
	term.t.Helper()
	waitUntil(term.t, func() (bool, string) {
		screen := term.tmux("capture-pane", "-p")
		return strings.Contains(screen, want), "no " + want + " on the screen:\n" + screen
	})
}

func (term *terminal) seeNo(what string) {
	term.t.Helper()
	waitUntil(term.t, func() (bool, string) {
		screen := term.tmux("capture-pane", "-p")
		return !strings.Contains(screen, what), what + " is still on the screen:\n" + screen
	})
}

// TestConsole types in a real guest's serial console from a real terminal, with
// somebody watching, and asks for the log of it.
func TestConsole(t *testing.T) {
	e := newEnv(t)
	t.Cleanup(func() { e.nothingLeft(t) })
	e.mvm(t, "tenant", "create", "acme", "--flake", filepath.Join(e.repo, "nix/debian"), "--profile", "minimal", "--data-size", "32", "--restart", "no")
	e.mvm(t, "tenant", "build", "acme")
	e.mvm(t, "tenant", "run", "acme")

	// No login is offered on this guest's console: a reader takes its place.
	e.mvm(t, "tenant", "ssh", "acme", "--", "sh", "-c", "(while read -r line; do echo \"heard <$line>\"; done) </dev/ttyS0 >/dev/ttyS0 2>&1 &")
	at, watching := newTerminal(t, e), newTerminal(t, e)
	at.enter("stty -g > before; mvm tenant console acme; echo ended with $?; stty -g > after; cmp before after && echo as before")
	at.see("at the console of tenant acme; Ctrl-] leaves it")
	watching.enter("mvm tenant console acme; echo ended with $?")
	watching.see("somebody else types")
	at.enter("one two")
	at.see("heard <one two>")
	watching.see("heard <one two>")
	watching.enter("not for you")

	// What commands a terminal does not reach it; colours do.
	e.mvm(t, "tenant", "ssh", "acme", "--", "sh", "-c", `printf 'a\033]0;owned\007b\033[6nc\n' > /dev/ttyS0`)
	at.see("abc")
	if title := at.tmux("display-message", "-p", "#{pane_title}"); strings.Contains(title, "owned") {
		t.Errorf("a guest set the terminal's title: %q", title)
	}
	at.enter("three")
	at.see("heard <three>")

	// Ctrl-C is the guest's here, and ends the watching there.
	at.tmux("send-keys", "C-]")
	at.see("ended with 0")
	at.see("as before")
	watching.tmux("send-keys", "C-c")
	watching.see("ended with 0")

	log := e.mvm(t, "tenant", "logs", "acme", "--tail", "50")
	if !strings.Contains(log, "heard <three>") || strings.Contains(log, "not for you") || !strings.Contains(log, "\x1b]0;owned") {
		t.Errorf("the log: %q", log)
	}
	if since := e.mvm(t, "tenant", "logs", "acme", "--since", "1h"); !strings.Contains(since, "heard <three>") {
		t.Errorf("the log of the last hour: %q", since)
	}
	if since := e.mvm(t, "tenant", "logs", "acme", "--since", "2999-01-01"); since != "" {
		t.Errorf("the log of the future: %q", since)
	}
	if said := e.mvm(t, "tenant", "logs", "acme", "--source", "supervisor", "--since", "1h"); !strings.Contains(said, "msg=started") {
		t.Errorf("the supervisor's log: %q", said)
	}

	// A console that ends gives the terminal back, too.
	at.enter("clear")
	at.seeNo("at the console of tenant acme")
	at.enter("mvm tenant console acme; echo ended with $?; stty -g > after; cmp before after && echo again as before")
	at.see("at the console of tenant acme")
	e.mvm(t, "tenant", "stop", "acme", "--force")
	at.see("it has ended")
	at.see("ended with 4")
	at.see("again as before")
}
