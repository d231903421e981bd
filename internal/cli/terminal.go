package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// width is that of the terminal, 0 where the output is none.
func (a *app) width() int {
	f, ok := a.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// paint styles text where the output is a terminal and nobody objects. It is
// not lipgloss that does it: merely linked, that looks at the terminal when any
// command starts, and asks tmux.
func (a *app) paint(style ansi.Style, text string) string {
	if !a.colored() {
		return text
	}
	return style.Styled(text)
}

func (a *app) colored() bool {
	return !a.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && a.width() > 0
}

// result prints a line of what the command was called for.
func (a *app) result(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }

// note prints what a person may want to know but no script needs.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.say(format, args...)
	}
}

// say prints a line on standard error. It may hold words of a guest's or a
// flake's, so a terminal gets it without what could command it.
func (a *app) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...) + "\n"
	if f, ok := a.Err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		line = plainText(line)
	}
	if live := a.live.Load(); live != nil {
		live.above(line)
		return
	}
	io.WriteString(a.Err, line)
}

// The colours of the first 16 that every terminal has, by the user's theme.
var (
	red    = ansi.NewStyle(ansi.AttrRedForegroundColor)
	green  = ansi.NewStyle(ansi.AttrGreenForegroundColor)
	yellow = ansi.NewStyle(ansi.AttrYellowForegroundColor)
	dim    = ansi.NewStyle(ansi.AttrFaint)
)
