package cli

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/goldenfile"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/lima/limatest"
	"github.com/auser/mvm/internal/stats"
	"github.com/auser/mvm/internal/tenant"
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

// TestTablesAtWidths shows what is left of the widest tables on terminals of
// several widths, and in a pipe.
func TestTablesAtWidths(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	tenants := []lifecycle.Listed{
		{Status: lifecycle.Status{
			ID: "acme", Phase: tenant.Running, Running: true, Since: now.Add(-26 * time.Hour),
			Spec:  tenant.Spec{Profile: "baseline", VCPUs: 2, MemMiB: 2048, DataMiB: 2048},
			State: tenant.State{Tier: "kvm", Net: tenant.Net{IP: "10.50.0.10"}, Restarts: 3},
		}, DiskBytes: 123 << 20, UptimeSeconds: 26 * 3600},
		{Status: lifecycle.Status{
			ID: "a-customer-with-a-rather-long-name", Phase: tenant.Failed, Since: now.Add(-5 * time.Minute),
			Reason: "gave up after 5 restarts in a row; the last one: the guest ended by itself",
			Spec:   tenant.Spec{Profile: "python", VCPUs: 1, MemMiB: 512},
			State:  tenant.State{Tier: "kvm", Net: tenant.Net{IP: "10.50.0.211"}, Restarts: 5},
		}},
	}
	usage := usageTable()
	for _, u := range []stats.Usage{
		{Sample: stats.Sample{ID: "acme", Phase: tenant.Running, Running: true, Memory: 300 << 20, Uptime: 93600}, CPUPercent: 187.5, MemoryOfGuest: 15},
		{Sample: stats.Sample{ID: "web", Phase: tenant.Stopped}},
	} {
		usage.row(usageRow(u)...)
	}
	var b strings.Builder
	for _, width := range []int{40, 80, 200, 0} {
		fmt.Fprintf(&b, "-- %d columns\n", width)
		for _, tab := range []*table{tenantTable(tenants, now), usage} {
			if err := tab.print(&b, width); err != nil {
				t.Fatal(err)
			}
		}
	}
	goldenfile.Check(t, "testdata/tables.golden", b.String())
}

// TestTableOfHostileWords has cells that would command a terminal, or make a row
// of their own.
func TestTableOfHostileWords(t *testing.T) {
	tab := &table{head: []string{"ID", "REASON"}}
	tab.row("acme", "\x1b]0;owned\x07said:\nweb  running\r\x1b[2J")
	tab.row("web", "größer als 日本")
	var b strings.Builder
	if err := tab.print(&b, 0); err != nil {
		t.Fatal(err)
	}
	if want := "ID    REASON\nacme  said: web running\nweb   größer als 日本\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// TestHostileErrorOnATerminal: what a guest or a flake has said is part of many
// an error.
func TestHostileErrorOnATerminal(t *testing.T) {
	master, slave, err := limatest.OpenTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	a := &app{Streams: Streams{Err: slave}}
	code := a.report(t.Context(), &build.Error{Kind: build.ErrBuild, Msg: "it said \x1b[2Jnothing", Log: "\x1b]52;c;eA==\x07last words", Hint: "read \x1b[31mit"})
	a.note("e2fsck: \x9b2Jlabel")
	slave.Close()
	said, _ := io.ReadAll(master) // EIO is how a terminal says that nobody has it open any more
	if want := "last words\r\nmvm: it said nothing\r\nhint: read it\r\ne2fsck: label\r\n"; string(said) != want || code != 1 {
		t.Errorf("%d, %q, want %q", code, said, want)
	}
}
