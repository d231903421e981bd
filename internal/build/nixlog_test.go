package build

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// TestNixLog replays a recorded log in awkward pieces and compares the events
// and the readable log with golden files.
func TestNixLog(t *testing.T) {
	recorded, err := os.ReadFile("testdata/nix.log")
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []int{1, 7, len(recorded)} {
		var events, log bytes.Buffer
		clock := time.Unix(0, 0)
		l := newNixLog(func(e Event) {
			fmt.Fprintf(&events, "%s %s [%s] %q builds %v fetches %v bytes %v\n",
				e.Phase, e.Kind, e.Source, e.Text, e.Counts.Builds, e.Counts.Fetches, e.Counts.Bytes)
		}, &log, clock)
		l.now = func() time.Time { clock = clock.Add(time.Second); return clock }
		for rest := recorded; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := l.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		l.finish()
		golden(t, "nix.events", events.String())
		golden(t, "nix.readable", log.String())
		golden(t, "nix.lastwords", l.lastWords()+"\n")
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      "plain",
		"\x1b[31;1merror:\x1b[0m no": "error: no",
		"\x1b]0;title\x07text":       "text",
		"\x1b]8;;http://x\x1b\\link": "link",
		"10%\r50%\r100%":             "100%",
		"done\r":                     "done",
		"a\tb\x00\x07\x7f":           "a b",
		"c1 \u009b31m":               "c1 31m",
		"bad \xff utf-8":             "bad � utf-8",
		"two\nlines":                 "two lines",
		"\x1b":                       "",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLongLineIsCut(t *testing.T) {
	var log bytes.Buffer
	l := newNixLog(nil, &log, time.Now())
	long := strings.Repeat("x", 3*maxLine+5)
	if _, err := l.Write([]byte(long)); err != nil {
		t.Fatal(err)
	}
	if len(l.partial) > maxLine {
		t.Errorf("%d bytes are kept in memory", len(l.partial))
	}
	l.finish()
	if got := strings.Count(log.String(), "x"); got < len(long)-4 {
		t.Errorf("%d of %d characters are left", got, len(long))
	}
}

// TestMemoryIsBounded lets a flake say without end what is remembered: traces,
// which Nix tells as errors, warnings, and transfers that never end, which
// builders may report, too.
func TestMemoryIsBounded(t *testing.T) {
	b := &builder{emit: func(Event) {}}
	l := newNixLog(b.collect, io.Discard, time.Now())
	text := strings.Repeat("x", 20<<10)
	say := func(format string, args ...any) {
		if _, err := fmt.Fprintf(l, format+"\n", args...); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 300 {
		say(`@nix {"action":"msg","level":0,"msg":"trace: %d %s"}`, n, text)
		say(`@nix {"action":"msg","level":1,"msg":"%d %s"}`, n, text)
		say(`@mvm fail %d %s`, n, text)
		say(`%d %s`, n, text)
	}
	for n := range 3 * maxActivities {
		say(`@nix {"action":"start","id":%d,"type":101,"level":4,"text":""}`, n)
	}
	kept := len(l.partial)
	for _, list := range [][]string{l.errors, l.failures, l.noise, l.tail, b.warnings} {
		for _, line := range list {
			kept += len(line)
		}
	}
	if kept > 3<<20 || len(l.activities) > maxActivities {
		t.Errorf("%d MiB and %d activities are kept", kept>>20, len(l.activities))
	}
	if words := l.lastWords(); !strings.Contains(words, "trace: 299 ") {
		t.Errorf("the last words are not the last: %.100q", words)
	}
}

func TestLogIsBounded(t *testing.T) {
	path := t.TempDir() + "/log"
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("y", 1<<20) + "\n")
	for range 70 {
		if n, err := l.Write(line); err != nil || n != len(line) {
			t.Fatal(n, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxLog+1024 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestPathInfo(t *testing.T) {
	for name, text := range map[string]string{
		"2.8":  `[{"path":"/nix/store/a","narHash":"sha256-x","narSize":5,"closureSize":9}]`,
		"2.26": `{"/nix/store/a":{"narHash":"sha256-x","narSize":5,"closureSize":9}}`,
	} {
		m, err := parsePathInfo([]byte(text))
		got := m["/nix/store/a"]
		if err != nil || got.NARHash != "sha256-x" || got.NARSize != 5 || got.ClosureSize != 9 {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if _, err := parsePathInfo([]byte("oops")); err == nil {
		t.Error("nonsense was accepted")
	}
}

func TestCanonicalLockIsNixs(t *testing.T) {
	// As `nix flake lock` wrote it.
	file, err := os.ReadFile("../../nix/flake.lock")
	if err != nil {
		t.Fatal(err)
	}
	got, err := canonicalLock(file)
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, file)
	}
}
