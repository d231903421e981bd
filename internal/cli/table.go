package cli

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
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
			row[i] = strings.Join(strings.Fields(plainText(cell)), " ")
		}
	}
	t.rows = append(t.rows, row)
}

// column is one that is shown.
type column struct {
	index int // in head and rows
	width int
}

// print writes the table; width 0 means that there is no limit.
func (t *table) print(w io.Writer, width int) error {
	all := append([][]string{t.head}, t.rows...)
	columns := t.columns(all, width)
	var b, line bytes.Buffer
	for n, row := range all {
		line.Reset()
		room := width
		shown := columns[:filled(columns, row)]
		for i, c := range shown {
			cell, limit := row[c.index], c.width
			if i == len(columns)-1 {
				limit = max(room, 1)
			}
			if width > 0 && cells(cell) > limit {
				cell = ansi.Truncate(cell, limit, "…")
			}
			pad := c.width - cells(cell) + 2
			if n > 0 && t.style != nil {
				cell = t.style(c.index, cell)
			}
			line.WriteString(cell)
			for range pad {
				if i < len(shown)-1 {
					line.WriteByte(' ')
				}
			}
			room -= c.width + 2
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

// columns are those that a terminal has room for. The last one counts with what
// it needs to be of use; where the others are still too wide, the first is cut
// to what tells one from another.
func (t *table) columns(all [][]string, width int) []column {
	const ofUse, toTell = 24, 16
	list, need := make([]column, len(t.head)), 0
	for i := range list {
		list[i].index = i
		for _, row := range all {
			list[i].width = max(list[i].width, cells(row[i]))
		}
		if need += list[i].width + 2; i == len(list)-1 {
			need += min(list[i].width, ofUse) - list[i].width - 2
		}
	}
	if width == 0 {
		return list
	}
	for _, name := range t.spare {
		if need <= width {
			return list
		}
		i := slices.IndexFunc(list, func(c column) bool { return t.head[c.index] == name })
		need -= list[i].width + 2
		list = slices.Delete(list, i, i+1)
	}
	first := &list[0].width
	*first = min(*first, max(*first-(need-width), toTell))
	return list
}

// filled is how many columns there are up to the last one that row has text in.
func filled(columns []column, row []string) int {
	n := len(columns)
	for n > 0 && row[columns[n-1].index] == "" {
		n--
	}
	return n
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

// printTable prints t as wide as the terminal is.
func (a *app) printTable(t *table) error { return t.print(a.Out, a.width()) }
