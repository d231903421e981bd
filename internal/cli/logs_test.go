package cli

import (
	"strings"
	"testing"
	"time"
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

// FuzzPlain asks that no escape reaches a log's reader, however it is cut.
func FuzzPlain(f *testing.F) {
	f.Add([]byte("a\x1b]0;t\x07b\n"), 3)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		at = max(0, min(at, len(data)))
		var b strings.Builder
		w := &plainWriter{w: &b}
		for _, part := range [][]byte{data[:at], data[at:]} {
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		for _, r := range b.String() {
			if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q lets %q through", data, r)
			}
		}
	})
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
