package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/auser/mvm/internal/stats"
	"github.com/auser/mvm/internal/tenant"
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
		if code, ok := map[string]rune{"up": tea.KeyUp, "down": tea.KeyDown, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd}[k]; ok {
			msg = tea.KeyPressMsg{Code: code}
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

// TestTopStaysOnThePage: what is shown is there, also when others have gone.
func TestTopStaysOnThePage(t *testing.T) {
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprintf("tenant-%02d", i))
	}
	m := topOf(ids...)
	m.height = 13
	for _, c := range []struct {
		key  string
		want int
	}{{"pgdown", 10}, {"down", 11}, {"j", 12}, {"up", 11}, {"k", 10}, {"pgup", 0}, {"k", 0}, {"end", 40}, {"j", 40}, {"pgdown", 40}, {"g", 0}, {"G", 40}, {"home", 0}, {"end", 40}} {
		if m = press(t, m, c.key); m.first != c.want {
			t.Errorf("%s: the first row is %d, want %d", c.key, m.first, c.want)
		}
	}
	next, _ := m.Update(measured{usage: m.usage[:5]})
	if m = next.(topModel); m.first != 0 || strings.Count(m.screen(), "tenant-") != 5 {
		t.Errorf("of 50 tenants, 5 are left, and it shows from row %d:\n%s", m.first, m.screen())
	}
	next, _ = m.Update(measured{})
	if m = next.(topModel); !strings.Contains(m.screen(), "0 running") {
		t.Errorf("none is left, and it shows\n%s", m.screen())
	}
}

// fakeTop shows what the file $TOP says: a tenant in each line, with its CPU and
// memory.
func fakeTop() int {
	a := &app{Streams: Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}}
	measure := func() ([]stats.Usage, error) {
		data, err := os.ReadFile(os.Getenv("TOP"))
		if err != nil {
			return nil, err
		}
		var list []stats.Usage
		for line := range strings.Lines(string(data)) {
			u := stats.Usage{Sample: stats.Sample{Running: true, Phase: tenant.Running, Uptime: 60}}
			if _, err := fmt.Sscan(line, &u.ID, &u.CPUPercent, &u.Memory); err != nil {
				return nil, err
			}
			list = append(list, u)
		}
		return list, nil
	}
	return a.report(context.Background(), a.showTop(context.Background(), topModel{measure: measure, interval: 100 * time.Millisecond, sort: "cpu"}))
}

// TestTopOfManyInATerminal sorts, filters, moves and resizes among tenants that
// come and go, in tmux.
func TestTopOfManyInATerminal(t *testing.T) {
	tmux, see := startTmux(t, "fake-top")
	see("READY:")
	file := filepath.Join(t.TempDir(), "top")
	write := func(ids ...int) {
		t.Helper()
		var b strings.Builder
		for _, i := range ids {
			fmt.Fprintf(&b, "tenant-%02d %d %d\n", i, i, (100-i)<<20)
		}
		// In one step: the program reads while this writes.
		if err := errors.Join(os.WriteFile(file+".new", []byte(b.String()), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	var all []int
	for i := range 40 {
		all = append(all, i)
	}
	write(all...)
	tmux("send-keys", "clear; TOP="+file+" fake-top; echo ended with $?", "Enter")
	see("40 running, CPU 780 %, memory 3.1 GiB; by cpu\nc m n d i sort,")
	see("NOTE\ntenant-39")
	for _, c := range []struct{ key, want string }{
		{"m", "NOTE\ntenant-00"}, {"r", "NOTE\ntenant-39"}, {"r", "NOTE\ntenant-00"}, {"i", "by id"}, {"NPage", "NOTE\ntenant-17"},
		{"Down", "NOTE\ntenant-18"}, {"Up", "NOTE\ntenant-17"}, {"End", "NOTE\ntenant-23"}, {"Home", "NOTE\ntenant-00"}, {"G", "NOTE\ntenant-23"},
	} {
		tmux("send-keys", c.key)
		see(c.want)
	}
	write(all[:5]...) // those on the screen are gone
	see("5 running")
	see("NOTE\ntenant-00")
	write(all...)
	see("40 running")
	tmux("send-keys", "/")
	tmux("send-keys", "--", "-7x")
	see("filter /-7x_")
	tmux("send-keys", "BSpace")
	tmux("send-keys", "BSpace")
	tmux("send-keys", "BSpace")
	tmux("send-keys", "--", "-0", "Enter")
	see("10 running")
	write(all[:1]...)
	see("1 running")
	write(all[20:]...)
	see("0 running, CPU 0 %, memory 0 B; by id, filter /-0\n")
	tmux("send-keys", "Escape")
	see("20 running")
	write(all...)
	see("40 running")
	for _, size := range []struct{ x, y, want string }{
		{"40", "10", "tenant-06"}, {"12", "4", "40 running,…"}, {"3", "2", "40…"}, {"200", "50", "tenant-39"}, {"80", "20", "tenant-16"},
	} {
		tmux("resize-window", "-x", size.x, "-y", size.y)
		see(size.want)
	}
	if screen := tmux("capture-pane", "-p"); !strings.HasPrefix(screen, "40 running") || strings.Contains(screen, "tenant-17") {
		t.Errorf("after it was resized:\n%s", screen)
	}
	if err := os.Remove(file); err != nil { // what cannot be measured ends it
		t.Fatal(err)
	}
	see("ended with 1\nREADY:")
	if screen := tmux("capture-pane", "-p", "-J"); !strings.Contains(screen, "mvm: open "+file) || strings.Contains(screen, "tenant-") {
		t.Errorf("it leaves the terminal with\n%s", screen)
	}
	tmux("send-keys", "stty -a | tr ' ' '\\n' | grep -cx -e icanon -e 'echo;*' -e isig", "Enter")
	see("\n3\n")
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
