package cli

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// table prints columns that fit the terminal. Where they do not, those that can
// be spared are left out, then the last one is cut short, and lines that are
// still too long end at the terminal's edge; whatever is no terminal gets
// everything.
type table struct {
	head  []string
	rows  [][]string
	spare []string                             // columns that can be left out, the least important first
	style func(column int, text string) string // may be nil; must not change the text's width
}

// row adds one. What could command a terminal, or end the line, is left out.
func (t *table) row(row ...string) {
	for i, cell := range row {
		if !isPlain(cell) {
			row[i] = plainText(strings.Join(strings.Fields(cell), " "))
		}
	}
	t.rows = append(t.rows, row)
}

// print writes the table; width 0 means that there is no limit.
func (t *table) print(w io.Writer, width int) error {
	widths := make([]int, len(t.head))
	all := append([][]string{t.head}, t.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], cells(cell))
		}
	}
	out := t.leftOut(widths, width)
	var b, line bytes.Buffer
	for n, row := range all {
		room := width
		line.Reset()
		for i, cell := range row {
			if out[i] {
				continue
			}
			last := i == len(row)-1
			if last && width > 0 {
				cell = ansi.Truncate(cell, max(room, 1), "…")
			}
			pad := widths[i] - cells(cell) + 2
			if last || trailingEmpty(row[i+1:]) {
				pad = 0
			}
			if n > 0 && t.style != nil {
				cell = t.style(i, cell)
			}
			line.WriteString(cell)
			for range pad {
				line.WriteByte(' ')
			}
			room -= widths[i] + 2
			if pad == 0 {
				break
			}
		}
		if width > 0 {
			b.WriteString(ansi.Truncate(line.String(), width, "…"))
		} else {
			b.Write(line.Bytes())
		}
		b.WriteByte('\n')
	}
	_, err := b.WriteTo(w)
	return err
}

// leftOut says which columns a terminal has no room for. The last one counts
// with what it needs to be of use.
func (t *table) leftOut(widths []int, width int) []bool {
	const ofUse = 24
	out := make([]bool, len(widths))
	if width == 0 {
		return out
	}
	need := 0
	for i, w := range widths {
		if need += w + 2; i == len(widths)-1 {
			need += min(w, ofUse) - w - 2
		}
	}
	for _, name := range t.spare {
		if need <= width {
			break
		}
		i := slices.Index(t.head, name)
		out[i] = true
		need -= widths[i] + 2
	}
	return out
}

// cells is how many of a terminal's cells text takes. Nearly all of it is plain
// ASCII, of which that is told at once.
func cells(text string) int {
	if isPlain(text) {
		return len(text)
	}
	return ansi.StringWidth(text)
}

func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

func trailingEmpty(cells []string) bool {
	for _, c := range cells {
		if c != "" {
			return false
		}
	}
	return true
}

// printTable prints t as wide as the terminal is.
func (a *app) printTable(t *table) error { return t.print(a.Out, a.width()) }

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

// The colours of the first 16 that every terminal has, by the user's theme.
var (
	red    = ansi.NewStyle(ansi.AttrRedForegroundColor)
	green  = ansi.NewStyle(ansi.AttrGreenForegroundColor)
	yellow = ansi.NewStyle(ansi.AttrYellowForegroundColor)
	dim    = ansi.NewStyle(ansi.AttrFaint)
)

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
