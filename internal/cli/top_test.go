package cli

import (
	"fmt"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/auser/mvm/internal/stats"
)

func topOf(ids ...string) topModel {
	m := topModel{sort: "cpu", width: 120, height: 20}
	for i, id := range ids {
		u := stats.Usage{Sample: stats.Sample{ID: id, Running: true, Phase: "running", Memory: uint64(100-i) << 20}, CPUPercent: float64(10 * i)}
		m.usage = append(m.usage, u)
	}
	return m
}

func press(t *testing.T, m topModel, keys ...string) topModel {
	t.Helper()
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		switch k {
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "esc":
			msg = tea.KeyPressMsg{Code: tea.KeyEscape}
		}
		next, _ := m.Update(msg)
		m = next.(topModel)
	}
	return m
}

func order(m topModel) string {
	var ids []string
	for _, u := range m.rows() {
		ids = append(ids, u.ID)
	}
	return strings.Join(ids, " ")
}

func TestTopKeys(t *testing.T) {
	m := topOf("a", "b", "web")
	for _, c := range []struct{ keys, want string }{
		{"", "web b a"}, {"m", "a b web"}, {"mr", "web b a"}, {"i", "a b web"}, {"/w", "web"}, {"/zz", ""},
	} {
		if got := order(press(t, m, strings.Split(c.keys, "")...)); got != c.want {
			t.Errorf("%q: %s, want %s", c.keys, got, c.want)
		}
	}
	m = press(t, m, "/", "q", "enter")
	if m.filter != "q" || m.typing || !strings.Contains(m.screen(), "0 running") {
		t.Errorf("a filter with a key of its own: %+v", m)
	}
	if m = press(t, m, "esc"); order(m) != "web b a" {
		t.Error("Esc does not drop the filter")
	}
	if _, cmd := m.Update(tea.KeyPressMsg{Text: "q", Code: 'q'}); cmd == nil {
		t.Error("q does not quit")
	}
}

func TestTopFits(t *testing.T) {
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprintf("tenant-%d", i))
	}
	m := topOf(ids...)
	m.width, m.height = 40, 10
	lines := strings.Split(m.screen(), "\n")
	if len(lines) > 10 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if len([]rune(l)) > 40 {
			t.Errorf("too wide: %q", l)
		}
	}
}

// TestTopInATerminal runs the program itself in tmux: it shows, sorts, filters
// and gives the terminal back.
func TestTopInATerminal(t *testing.T) {
	tmux, see := startTmux(t, "mvm")
	see("READY:")
	tmux("send-keys", "mvm top; echo ended with $?", "Enter")
	see("0 running, CPU 0 %")
	see("TENANT  STATE  CPU")
	tmux("send-keys", "m")
	see("by memory")
	tmux("send-keys", "/")
	tmux("send-keys", "web")
	see("filter /web_")
	tmux("send-keys", "Enter")
	tmux("send-keys", "q")
	see("ended with 0")
}
