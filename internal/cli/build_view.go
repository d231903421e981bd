package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/build"
)

// followBuild returns what is to be told of a build, which what names, and what
// ends that: one live view on a terminal, from the first that is told on, and
// plain lines otherwise.
func (a *app) followBuild(what string) (build.Progress, func()) {
	f, ok := a.Err.(*os.File)
	if !ok || a.quiet || a.verbose || a.json || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return a.showBuild, func() {}
	}
	width := func() int {
		w, _, err := term.GetSize(int(f.Fd()))
		if err != nil || w == 0 {
			return 80 // a serial line does not know
		}
		return w
	}
	live := &liveBuild{view: buildView{what: what}, out: f, width: width, ended: make(chan struct{})}
	a.live.Store(live)
	return live.take, func() {
		live.stop()
		a.live.CompareAndSwap(live, nil)
	}
}

// showBuild prints what a build does, a line for each thing worth one.
func (a *app) showBuild(e build.Event) {
	switch e.Kind {
	case build.Entered:
		a.note("  %-10s %6.1f s", e.Phase, e.Elapsed.Seconds())
	case build.Step:
		if a.verbose || !strings.Contains(e.Text, " 'file:///") { // what lies there already is no news
			a.note("    %s", e.Text)
		}
	case build.Log:
		if a.verbose {
			a.note("      %s", e.Text)
		}
	}
}

// buildView is what a live view shows of a build.
type buildView struct {
	what   string // building acme
	phase  build.Phase
	counts build.Counts
	step   string // what began last
	said   string // what a builder printed last
}

func (v *buildView) take(e build.Event) {
	if e.Phase != v.phase {
		v.step, v.said = "", ""
	}
	v.phase = e.Phase
	if e.Counts != (build.Counts{}) { // mvm's own events have none
		v.counts = e.Counts
	}
	switch e.Kind {
	case build.Entered, build.Step, build.Warning, build.Failure:
		v.step, v.said = e.Text, ""
	case build.Log:
		if v.said = e.Text; e.Source != "" {
			v.said = e.Source + "> " + e.Text
		}
	}
}

// lines are the view, none wider than the terminal.
func (v buildView) lines(elapsed time.Duration, width int) []string {
	lines := []string{fmt.Sprintf("%s: %s, %s", v.what, doing[v.phase], seconds(elapsed))}
	for _, line := range []string{v.sums(), v.step, v.said} {
		if line != "" {
			lines = append(lines, "  "+line)
		}
	}
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, max(1, width-1), "…") // a full line would begin another
	}
	return lines
}

// doing words the phases.
var doing = map[build.Phase]string{
	"":                   "starting",
	build.PhaseSnapshot:  "reading the source",
	build.PhaseContainer: "starting the container",
	build.PhaseEvaluate:  "evaluating the flake",
	build.PhaseBuild:     "building",
	build.PhaseCheck:     "building again, to compare",
	build.PhaseCopy:      "copying the artifacts out",
	build.PhaseVerify:    "checking the artifacts",
	build.PhasePublish:   "publishing the image",
	build.PhaseDone:      "done",
}

func (v buildView) sums() string {
	var parts []string
	for _, p := range []struct {
		verb  string
		count build.Count
	}{{"built", v.counts.Builds}, {"copied", v.counts.Copies}, {"fetched", v.counts.Fetches}} {
		c := p.count
		if c.Done+c.Expected+c.Running == 0 {
			continue
		}
		part := fmt.Sprintf("%s %d of %d", p.verb, c.Done, max(c.Expected, c.Done))
		if c.Failed > 0 {
			part += fmt.Sprintf(" (%d failed)", c.Failed)
		}
		parts = append(parts, part)
	}
	if b := v.counts.Bytes; b.Done+b.Expected > 0 {
		part := byteSize(b.Done)
		if b.Expected > b.Done {
			part += " of " + byteSize(b.Expected)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// liveBuild paints a view again and again, over what it painted before. It
// changes no mode of the terminal, so there is nothing to give back, however
// mvm ends; and Ctrl-C is the signal it always is.
type liveBuild struct {
	out     io.Writer
	width   func() int
	started time.Time
	begin   sync.Once
	painter sync.WaitGroup
	ended   chan struct{}
	end     sync.Once

	mu      sync.Mutex
	view    buildView
	painted int // lines
}

// paintEvery bounds how often a terminal is written to.
const paintEvery = 100 * time.Millisecond

func (l *liveBuild) take(e build.Event) {
	l.mu.Lock()
	l.view.take(e)
	l.mu.Unlock()
	l.begin.Do(func() {
		l.started = time.Now()
		l.painter.Go(l.repaint)
	})
	if e.Phase == build.PhaseDone {
		l.stop()
	}
}

func (l *liveBuild) repaint() {
	tick := time.NewTicker(paintEvery)
	defer tick.Stop()
	for {
		l.mu.Lock()
		l.paint(l.view.lines(time.Since(l.started), l.width()))
		l.mu.Unlock()
		select {
		case <-l.ended:
			l.mu.Lock()
			l.paint(nil)
			l.mu.Unlock()
			return
		case <-tick.C:
		}
	}
}

// above prints a line that stays, above the view.
func (l *liveBuild) above(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.painted > 0 {
		l.paint(nil)
	}
	_, _ = io.WriteString(l.out, line) // as in paint
}

// paint replaces the lines painted before by others.
func (l *liveBuild) paint(lines []string) {
	text := "\r"
	if l.painted > 1 {
		text += ansi.CursorUp(l.painted - 1)
	}
	text += ansi.EraseScreenBelow + strings.Join(lines, "\n")
	l.painted = len(lines)
	_, _ = io.WriteString(l.out, text) // a terminal that is gone must not end the build
}

// stop takes the view away.
func (l *liveBuild) stop() {
	l.end.Do(func() { close(l.ended) })
	l.painter.Wait()
}
