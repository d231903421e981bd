package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/auser/mvm/internal/store"
)

// TestPlain is a guest that would like to command the operator's terminal.
func TestPlain(t *testing.T) {
	for _, c := range []struct{ text, log, screen string }{
		{"ok\x1b]0;title\x07\x1b[2J\u009b31m\r\n\tgrüße\n", "ok31m\n\tgrüße\n", "ok\x1b[2J31m\r\r\n\tgrüße\r\n"},
		{"\x1b[31mred\x1b[0m\n", "red\n", "\x1b[31mred\x1b[0m\r\n"},
		{"a\x1b[6nb\x1b[cc\x1bcd\x1b[?1049he\x1b[5if\x1b[21tg\n", "abcdefg\n", "abcdefg\r\n"}, // answers, resets, modes, prints
		{"a\x1bP+q544e\x1b\\b\x1b_apc\x1b\\c\x1b]52;c;eA==\x1b\\d\n", "abcd\n", "abcd\r\n"},   // terminfo, APC, clipboard
		{"hidden\x1b]0;no end\nshown\n", "hidden\nshown\n", "hidden\r\nshown\r\n"},            // hides its own line at most
		{"raw \x9b31m C1 \x9d0;x\x07.\n", "raw  C1 .\n", "raw  C1 .\r\n"},                     // 8-bit controls
		{"login: ", "login: ", "login: "},                                                     // a prompt is shown at once
		{"ab\u202ecd\u2066\n", "abcd\n", "abcd\r\n"},                                          // text that runs backwards
		{"back\b\bspace \a\n", "backspace \n", "back\b\bspace \a\r\n"},                        //
		{"日本\xff\n", "日本\ufffd\n", "日本\ufffd\r\n"},                                            // no UTF-8
		{"\x1b[" + strings.Repeat("1;", 2000) + "31mx\n", "x\n", "x\r\n"},                     // longer than any
	} {
		for screen, want := range map[bool]string{false: c.log, true: c.screen} {
			var whole, bytewise strings.Builder
			w := &plainWriter{w: &whole, screen: screen}
			if _, err := w.Write([]byte(c.text)); err != nil {
				t.Fatal(err)
			}
			w = &plainWriter{w: &bytewise, screen: screen}
			for i := range len(c.text) {
				if _, err := w.Write([]byte{c.text[i]}); err != nil {
					t.Fatal(err)
				}
			}
			if whole.String() != want {
				t.Errorf("%.60q (screen %v): %.60q, want %.60q", c.text, screen, whole.String(), want)
			}
			if len(c.text) < maxPending && bytewise.String() != want {
				t.Errorf("%.60q byte by byte (screen %v): %.60q, want %.60q", c.text, screen, bytewise.String(), want)
			}
		}
	}
}

// FuzzPlain asks that no escape reaches a log's reader, and only harmless ones a
// console's, however what is written is cut.
func FuzzPlain(f *testing.F) {
	f.Add([]byte("a\x1b]0;t\x07b\n"), 3)
	f.Add([]byte("\x1b\x1b[2J\x1bP\x1b[31m\x9b6n\u009b\x1b[?25l\r\n"), 5)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		at = max(0, min(at, len(data)))
		for _, screen := range []bool{false, true} {
			var b strings.Builder
			w := &plainWriter{w: &b, screen: screen}
			for _, part := range [][]byte{data[:at], data[at:]} {
				if n, err := w.Write(part); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			text, may := b.String(), "\n\t"
			if screen {
				text, may = passes.ReplaceAllString(text, ""), "\n\t\r\b\a"
			}
			if !utf8.ValidString(text) {
				t.Fatalf("%q becomes %q", data, text)
			}
			for _, r := range text {
				if unicode.IsControl(r) && !strings.ContainsRune(may, r) {
					t.Fatalf("%q lets %q through (screen %v)", data, r, screen)
				}
			}
		}
	})
}

// passes is what a console may have beside text.
var passes = regexp.MustCompile(strings.Trim(harmless.String(), "^$"))

// TestHostileLog has mvm tenant logs print what a guest has written, on a
// terminal and off it.
func TestHostileLog(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mvm, root := filepath.Join(dir, "mvm"), filepath.Join(dir, "root")
	if err := os.Symlink(self, mvm); err != nil { // testscript tells it by its name
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte("{ outputs = _: { }; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(mvm, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm", "MVM_ROOT=" + root}
		return cmd
	}
	printed(t, command("tenant", "create", "acme", "--flake", dir, "--data-size", "16"), false)
	const hostile = "ok \x1b[31mred\x1b]52;c;cm0gLXJm\x07 \x1b[6n\x1bP+q544e\x1b\\ \u202etxt\nnext \x9b2J\r\n"
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.RunDir) })
	log := s.Tenant("acme").ConsoleLog()
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, []byte(hostile), 0o600); err != nil {
		t.Fatal(err)
	}
	const plain = "ok red  txt\r\nnext \r\n" // the terminal itself puts \r before \n
	for _, c := range []struct {
		name, want string
		terminal   bool
		args       []string
	}{
		{"terminal", plain, true, nil},
		{"tail on a terminal", "next \r\n", true, []string{"--tail", "1"}},
		{"pipe", hostile, false, nil},
		{"raw on a terminal", strings.ReplaceAll(hostile, "\n", "\r\n"), true, []string{"--raw"}},
	} {
		if got := printed(t, command(append([]string{"tenant", "logs", "acme"}, c.args...)...), c.terminal); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestSince(t *testing.T) {
	zone := time.FixedZone("here", 3600)
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"": {}, "90s": now.Add(-90 * time.Second), "1h30m": now.Add(-90 * time.Minute), "3d": now.AddDate(0, 0, -3),
		"10:15": time.Date(2026, 8, 1, 10, 15, 0, 0, zone), "2026-07-31": time.Date(2026, 7, 31, 0, 0, 0, 0, zone),
		"2026-07-31 10:15:20": time.Date(2026, 7, 31, 10, 15, 20, 0, zone), "2026-07-31T10:15:20Z": time.Date(2026, 7, 31, 10, 15, 20, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-5m", "3days", "25:00", "2026-13-01"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestEscapeKey(t *testing.T) {
	for text, want := range map[string]byte{"^]": 0x1d, "^O": 0x0f, "^o": 0x0f, "^_": 0x1f} {
		if k, err := parseKey(text); err != nil || byte(k) != want {
			t.Errorf("%s: %x, %v", text, byte(k), err)
		}
	}
	for _, text := range []string{"", "]", "^", "^1", "^]]", "^@"} {
		if k, err := parseKey(text); err == nil {
			t.Errorf("%s: %v", text, k)
		}
	}
}
