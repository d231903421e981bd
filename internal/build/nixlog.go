package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Nix's structured log: lines of "@nix {json}". The numbers are those of Nix's
// logging.hh, unchanged since 2.4.
const (
	actCopyPath     = 100
	actFileTransfer = 101
	actCopyPaths    = 103
	actBuilds       = 104
	actBuild        = 105
	actSubstitute   = 108
	actFetchTree    = 112

	resBuildLogLine = 101
	resProgress     = 105
	resSetExpected  = 106
)

type nixEvent struct {
	Action string            `json:"action"`
	ID     uint64            `json:"id"`
	Type   int               `json:"type"`
	Level  int               `json:"level"`
	Text   string            `json:"text"`
	Msg    string            `json:"msg"`
	Raw    string            `json:"raw_msg"`
	Fields []json.RawMessage `json:"fields"`
}

func (e nixEvent) str(i int) string {
	var s string
	if i < len(e.Fields) && json.Unmarshal(e.Fields[i], &s) != nil {
		return ""
	}
	return s
}

func (e nixEvent) num(i int) int64 {
	var n int64
	if i < len(e.Fields) && json.Unmarshal(e.Fields[i], &n) != nil {
		return 0
	}
	return n
}

// activity is something that Nix is doing.
type activity struct {
	kind  int
	name  string // of the derivation that builds
	count Count  // as last reported
}

// What is remembered of all that a build says, which the flake's author may
// make as much as they like: this process is bounded by nothing else.
const (
	tailLines     = 25       // the last lines of each kind, for an error's text
	maxKept       = 16 << 10 // bytes of each
	maxWarnings   = 100      // the first ones
	maxActivities = 1 << 12  // at a time; what begins beyond is not counted
)

// nixLog turns what a build container says into events, keeps the readable
// form in log and remembers what an error message needs. Its Write is given
// the container's standard error.
type nixLog struct {
	emit    Progress
	log     io.Writer
	started time.Time
	now     func() time.Time

	partial    []byte
	activities map[uint64]*activity
	phase      Phase
	fetches    Count
	done       Counts // of activities that ended
	lastTick   time.Time
	tentative  bool // what fails now will be tried another way

	tail     []string // the last lines that builders said
	errors   []string // Nix's own
	failures []string // the script's: "lock", "outputs", …
	noise    []string // lines that are neither: the shell, the engine
	built    int64
}

func newNixLog(emit Progress, log io.Writer, started time.Time) *nixLog {
	if emit == nil {
		emit = func(Event) {}
	}
	return &nixLog{emit: emit, log: log, started: started, now: time.Now, activities: map[uint64]*activity{}}
}

// maxLine bounds one line of output; a longer one is cut into several.
const maxLine = 1 << 20

func (l *nixLog) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 && len(l.partial) > maxLine {
			i = maxLine
		}
		if i < 0 {
			return len(p), nil
		}
		l.line(string(l.partial[:i]))
		l.partial = append(l.partial[:0], l.partial[min(i+1, len(l.partial)):]...)
	}
}

// finish takes a last line without an end.
func (l *nixLog) finish() {
	if len(l.partial) > 0 {
		l.line(string(l.partial))
		l.partial = nil
	}
}

func (l *nixLog) line(s string) {
	if word, ok := strings.CutPrefix(s, "@mvm "); ok {
		l.script(word)
		return
	}
	if raw, ok := strings.CutPrefix(s, "@nix "); ok {
		var e nixEvent
		if json.Unmarshal([]byte(raw), &e) == nil {
			l.event(e)
			return
		}
	}
	if s = clean(s); s != "" {
		l.keep(&l.noise, s)
		l.write(s)
		l.send(Event{Kind: Log, Text: s})
	}
}

// script handles what builder.sh says.
func (l *nixLog) script(s string) {
	verb, rest, _ := strings.Cut(s, " ")
	switch verb {
	case "phase":
		l.enter(Phase(rest), "")
	case "tentative":
		l.tentative = true
	case "definite":
		l.tentative = false
	case "fail":
		l.keep(&l.failures, clean(rest))
	}
}

// enter begins a phase.
func (l *nixLog) enter(p Phase, text string) {
	l.phase = p
	l.write(fmt.Sprintf("== %s %s", p, text))
	l.send(Event{Kind: Entered, Text: text})
}

func (l *nixLog) event(e nixEvent) {
	switch e.Action {
	case "start":
		l.start(e)
	case "stop":
		l.stop(e.ID)
	case "result":
		l.result(e)
	case "msg":
		l.message(e)
	}
}

func (l *nixLog) start(e nixEvent) {
	if len(l.activities) == maxActivities {
		return
	}
	a := &activity{kind: e.Type}
	l.activities[e.ID] = a
	switch e.Type {
	case actBuild:
		a.name = derivationName(e.str(0))
		l.built++
	case actFileTransfer, actFetchTree:
		l.fetches.Expected++
		l.fetches.Running++
	}
	if text := clean(e.Text); text != "" && (e.Level <= levelInfo || worthTelling(e.Type)) {
		l.write(text)
		l.send(Event{Kind: Step, Text: text, Source: a.name})
	}
}

// worthTelling says of which activities a person wants to know by name.
func worthTelling(kind int) bool {
	switch kind {
	case actBuild, actSubstitute, actCopyPath, actFileTransfer, actFetchTree:
		return true
	}
	return false
}

func (l *nixLog) stop(id uint64) {
	a, ok := l.activities[id]
	if !ok {
		return
	}
	delete(l.activities, id)
	switch a.kind {
	case actBuilds:
		l.done.Builds.add(a.count)
	case actCopyPaths:
		l.done.Copies.add(a.count)
	case actFileTransfer:
		l.done.Bytes.Done += a.count.Done
		l.done.Bytes.Expected += a.count.Done // what was announced may not have come
		fallthrough
	case actFetchTree:
		l.fetches.Running--
		l.fetches.Done++
	}
	l.tick()
}

func (l *nixLog) result(e nixEvent) {
	a := l.activities[e.ID]
	switch e.Type {
	case resBuildLogLine:
		text := clean(e.str(0))
		source := ""
		if a != nil {
			source = a.name
		}
		l.keep(&l.tail, text)
		l.write(source + "> " + text)
		l.send(Event{Kind: Log, Text: text, Source: source})
	case resProgress:
		if a == nil {
			return
		}
		a.count = Count{Done: e.num(0), Expected: e.num(1), Running: e.num(2), Failed: e.num(3)}
		l.tick()
	}
}

const (
	levelError = 0
	levelWarn  = 1
	levelInfo  = 3
)

func (l *nixLog) message(e nixEvent) {
	text := clean(e.Msg)
	if text == "" || e.Level > levelInfo {
		return
	}
	l.write(cleanLines(e.Msg))
	if l.tentative || expected(text) {
		return
	}
	kind := Step
	switch e.Level {
	case levelError:
		kind = Failure
		l.keep(&l.errors, cleanLines(e.Msg))
	case levelWarn:
		kind = Warning
	}
	l.send(Event{Kind: kind, Text: text})
}

// expected says whether Nix only lists what it will do next, or warns of what
// mvm does on purpose or reports itself.
func expected(text string) bool {
	return strings.HasPrefix(text, "  /nix/store/") || strings.Contains(text, "not writing modified lock file") ||
		strings.Contains(text, "you don't have Internet access") ||
		strings.Contains(text, "ignoring untrusted flake configuration setting") ||
		strings.Contains(text, "you did not specify '--add-root'")
}

// tickEvery bounds how often counts alone are reported.
const tickEvery = 100 * time.Millisecond

func (l *nixLog) tick() {
	if now := l.now(); now.Sub(l.lastTick) >= tickEvery {
		l.lastTick = now
		l.send(Event{Kind: Tick})
	}
}

// total adds up what runs and what is done.
func (l *nixLog) total() Counts {
	c := l.done
	c.Fetches = l.fetches
	for _, a := range l.activities {
		switch a.kind {
		case actBuilds:
			c.Builds.add(a.count)
		case actCopyPaths:
			c.Copies.add(a.count)
		case actFileTransfer:
			c.Bytes.add(Count{Done: a.count.Done, Expected: a.count.Expected})
		}
	}
	return c
}

func (c *Count) add(o Count) {
	c.Done += o.Done
	c.Expected += o.Expected
	c.Running += o.Running
	c.Failed += o.Failed
}

func (l *nixLog) send(e Event) {
	e.Phase, e.Counts, e.Elapsed = l.phase, l.total(), l.now().Sub(l.started)
	l.emit(e)
}

func (l *nixLog) write(line string) {
	// A full disk must not end a build that could still succeed; the log's own
	// writer remembers the error.
	_, _ = io.WriteString(l.log, line+"\n")
}

func (l *nixLog) keep(list *[]string, line string) {
	*list = append(*list, cut(line))
	if len(*list) > tailLines {
		*list = append((*list)[:0], (*list)[1:]...)
	}
}

// cut bounds what is kept of a text. It copies, so that no more is held.
func cut(text string) string {
	if len(text) <= maxKept {
		return text
	}
	return strings.ToValidUTF8(text[:maxKept], "") + "…"
}

var (
	escapes      = regexp.MustCompile("\x1b(\\[[0-9;?]*[ -/]*[@-~]|\\][^\x07\x1b]*(\x07|\x1b\\\\)?|[@-_])")
	storeHashed  = regexp.MustCompile(`^/nix/store/[a-z0-9]{32}-`)
	derivSuffix  = ".drv"
	notPrintable = func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}
)

// clean makes one line of text that is safe on any terminal.
func clean(s string) string {
	if i := strings.LastIndexByte(strings.TrimRight(s, "\r"), '\r'); i >= 0 {
		s = s[i+1:] // what a terminal would show of a line that was overwritten
	}
	s = strings.ReplaceAll(s, "\n", " ")
	return strings.TrimRight(strings.Map(notPrintable, escapes.ReplaceAllString(strings.ToValidUTF8(s, "�"), "")), " ")
}

// cleanLines is clean for text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// derivationName is what a person calls a derivation.
func derivationName(path string) string {
	return clean(strings.TrimSuffix(storeHashed.ReplaceAllString(path, ""), derivSuffix))
}
