package cli

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// plainWriter leaves out what a guest could command a terminal with: control
// characters and whole escape sequences. A sequence ends with its line, so that
// one which is never ended hides no more than that.
type plainWriter struct {
	w      io.Writer
	screen bool // sequences that only move and colour may pass, for a console in use

	pending []byte // the beginning of a sequence or character that is not whole yet
}

// plainText is text without what could command a terminal.
func plainText(text string) string {
	var b strings.Builder
	p := &plainWriter{w: &b}
	if _, err := io.WriteString(p, text); err != nil {
		panic(err) // a strings.Builder takes everything
	}
	return b.String()
}

// maxPending bounds a sequence that does not end.
const maxPending = 1024

func (p *plainWriter) Write(data []byte) (int, error) {
	text := append(p.pending, data...)
	p.pending = nil
	var out bytes.Buffer
	for len(text) > 0 {
		line, whole := text, false
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, whole = text[:i+1], true
		}
		rest := p.clean(&out, line, whole)
		text = text[len(line):]
		if !whole && len(rest) <= maxPending {
			p.pending = append([]byte(nil), rest...)
		}
	}
	if _, err := p.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(data), nil
}

// clean writes what may be shown of a line and returns the end of it that is
// not whole; a line that has ended is whole.
func (p *plainWriter) clean(out *bytes.Buffer, line []byte, whole bool) []byte {
	if whole {
		line = line[:len(line)-1]
	}
	for len(line) > 0 {
		if line[0] >= utf8.RuneSelf && !utf8.FullRune(line) && !whole {
			return line
		}
		seq, _, n, state := ansi.DecodeSequence(line, ansi.NormalState, nil) // with a parser it panics on many parameters
		if state != ansi.NormalState {                                       // it is not whole
			if whole {
				break
			}
			return line
		}
		n = max(n, 1)
		switch {
		case len(seq) > 0 && (seq[0] == ansi.ESC || seq[0] >= 0x80 && seq[0] < 0xc0):
			if p.screen && harmless.Match(seq) {
				out.Write(seq)
			}
		default:
			out.WriteString(strings.Map(p.visible, string(seq)))
		}
		line = line[n:]
	}
	if whole {
		if p.screen {
			out.WriteByte('\r') // the terminal is raw, and the guest may not have said it
		}
		out.WriteByte('\n')
	}
	return nil
}

func (p *plainWriter) visible(r rune) rune {
	switch {
	case r == '\t', p.screen && (r == '\r' || r == '\b' || r == '\a'):
		return r
	case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
		return -1
	}
	return r
}

// harmless sequences move the cursor, erase and colour. What makes a
// terminal answer, changes its modes, title or clipboard, or prints is none.
var harmless = regexp.MustCompile("^(\x1b\\[[0-9;:]{0,64}[@ABCDEFGHJKLMPSTX`adefgmsu]|\x1b[78DEM])$")

// plain is the output, on a terminal without what could command it.
func (a *app) plain() io.Writer {
	if a.width() == 0 {
		return a.Out
	}
	return &plainWriter{w: a.Out}
}
