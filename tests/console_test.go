package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/tmuxtest"
)

func newTerminal(t *testing.T, e *env) *tmuxtest.Terminal {
	t.Helper()
	return tmuxtest.New(t, 30, e.bin, "MVM_ROOT="+e.root)
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
	at.Enter("stty -g > before; mvm tenant console acme; echo ended with $?; stty -g > after; cmp before after && echo as before")
	at.See("at the console of tenant acme; Ctrl-] leaves it")
	watching.Enter("mvm tenant console acme; echo ended with $?")
	watching.See("somebody else types")
	at.Enter("one two")
	at.See("heard <one two>")
	watching.See("heard <one two>")
	watching.Enter("not for you")

	// What commands a terminal does not reach it; colours do.
	e.mvm(t, "tenant", "ssh", "acme", "--", "sh", "-c", `printf 'a\033]0;owned\007b\033[6nc\n' > /dev/ttyS0`)
	at.See("abc")
	if title := at.Do("display-message", "-p", "#{pane_title}"); strings.Contains(title, "owned") {
		t.Errorf("a guest set the terminal's title: %q", title)
	}
	at.Enter("three")
	at.See("heard <three>")

	// Ctrl-C is the guest's here, and ends the watching there.
	at.Do("send-keys", "C-]")
	at.See("ended with 0")
	at.See("as before")
	watching.Do("send-keys", "C-c")
	watching.See("ended with 0")

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
	at.Enter("clear")
	at.SeeNo("at the console of tenant acme")
	at.Enter("mvm tenant console acme; echo ended with $?; stty -g > after; cmp before after && echo again as before")
	at.See("at the console of tenant acme")
	e.mvm(t, "tenant", "stop", "acme", "--force")
	at.See("it has ended")
	at.See("ended with 4")
	at.See("again as before")
}
