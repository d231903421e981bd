package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
)

func TestWords(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "just now"}, {42 * time.Second, "42 s ago"}, {3 * time.Minute, "3 min ago"},
		{time.Hour, "1 hour ago"}, {47 * time.Hour, "47 hours ago"}, {72 * time.Hour, "3 days ago"},
	} {
		if got := ago(now, now.Add(-c.d)); got != c.want {
			t.Errorf("ago(%s) = %q, want %q", c.d, got, c.want)
		}
	}
	if got := ago(now, time.Time{}); got != "-" {
		t.Errorf("ago(never) = %q", got)
	}
	// The clock was set back since.
	if got := ago(now, now.Add(48*time.Hour)); got != "just now" {
		t.Errorf("ago(in two days) = %q", got)
	}
	if got := span(-time.Minute); got != "0 s" {
		t.Errorf("span(-1 min) = %q", got)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 64 << 20: "64 MiB", 3 << 40: "3.0 TiB"} {
		if got := byteSize(n); got != want {
			t.Errorf("byteSize(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestTableFits(t *testing.T) {
	tab := &table{head: []string{"ID", "STATE", "REASON"}}
	tab.row("acme", "failed", "its VMM, process 4711, is gone")
	tab.row("b", "running", "")
	var b strings.Builder
	if err := tab.print(&b, 24); err != nil {
		t.Fatal(err)
	}
	want := "ID    STATE    REASON\nacme  failed   its VMM,…\nb     running\n"
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	b.Reset()
	if err := tab.print(&b, 0); err != nil || !strings.Contains(b.String(), "4711, is gone") {
		t.Errorf("without a terminal everything is printed, got:\n%s (%v)", b.String(), err)
	}
}

// TestTableNeverWraps prints more columns than any terminal has room for.
func TestTableNeverWraps(t *testing.T) {
	tab := &table{head: []string{"TENANT", "STATE", "PROFILE", "ADDRESS", "REASON"}, style: func(_ int, text string) string { return "\x1b[31m" + text + "\x1b[0m" }}
	tab.row("a-tenant-with-a-long-name", "running", "baseline", "10.50.0.10", "stopped on request")
	for width := 1; width < 100; width++ {
		var b strings.Builder
		if err := tab.print(&b, width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if got := ansi.StringWidth(strings.TrimSuffix(line, "\n")); got > width {
				t.Errorf("%d wide where %d is: %q", got, width, line)
			}
		}
	}
}

// TestCells: the quick way counts as the thorough one does.
func TestCells(t *testing.T) {
	for _, text := range []string{"", "acme", "2 hours ago ~", "naïve", "日本", "e\u0301", "\x1b[31mred\x1b[0m", "a\tb", "\x7f"} {
		if got, want := cells(text), ansi.StringWidth(text); got != want {
			t.Errorf("cells(%q) = %d, want %d", text, got, want)
		}
	}
}
