package fcconfig

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Refusal is one thing that a configuration may not say, and where it says it.
type Refusal struct {
	Path string // such as drives[1].path_on_host
	Why  string
}

func (r *Refusal) Error() string { return clip(r.Path) + ": " + r.Why }

// Refusals are everything that is wrong with a configuration.
type Refusals []*Refusal

func (r Refusals) Error() string {
	lines := make([]string, len(r))
	for i, one := range r {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "; ")
}

// maxRefusals bounds what a hostile document makes us report.
const maxRefusals = 20

// A checker collects what is wrong with a document.
type checker struct {
	refused Refusals
	// newer allows fields that the model does not know, for a document that
	// declares a newer Firecracker, and notes them in unmodelled.
	newer      bool
	unmodelled []string
	needs      Version // the oldest Firecracker that has what the document says
}

// demand notes that the document is for v or newer.
func (c *checker) demand(v Version) {
	if c.needs.Less(v) {
		c.needs = v
	}
}

func (c *checker) refuse(path, format string, args ...any) {
	if len(c.refused) < maxRefusals {
		c.refused = append(c.refused, &Refusal{path, fmt.Sprintf(format, args...)})
	}
}

func (c *checker) err() error {
	if len(c.refused) == 0 {
		return nil
	}
	return c.refused
}

// A rule says what the value at path may be.
type rule func(c *checker, path string, v any)

type fields map[string]rule

// object is an object with these fields, of which the required ones must be
// there.
func object(known fields, required ...string) rule {
	return func(c *checker, path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			c.refuse(path, "want an object")
			return
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			at := join(path, name)
			switch check := known[name]; {
			case check != nil:
				check(c, at, m[name])
			case c.newer && path != "" && fieldPattern.MatchString(name):
				c.unmodelled = append(c.unmodelled, at)
				harmless(c, at, m[name])
			default:
				c.refuse(at, "unknown field")
			}
		}
		for _, name := range required {
			if _, there := m[name]; !there {
				c.refuse(join(path, name), "is missing")
			}
		}
	}
}

// since is the rule of a field that Firecracker has had from v on.
func since(v Version, r rule) rule {
	return func(c *checker, path string, value any) {
		c.demand(v)
		r(c, path, value)
	}
}

// each is an object with whatever fields, each of which follows the rule.
func each(field rule) rule {
	return func(c *checker, path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			c.refuse(path, "want an object")
			return
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			field(c, join(path, name), m[name])
		}
	}
}

// harmless is what an unmodelled field of a newer Firecracker may hold:
// numbers, booleans and single words, which can name no path or socket.
func harmless(c *checker, path string, v any) {
	switch v := v.(type) {
	case bool, json.Number:
	case string:
		if !wordPattern.MatchString(v) {
			c.refuse(path, "a field that this mvm does not know may hold a number, a boolean or one word")
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			harmless(c, join(path, name), v[name])
		}
	default:
		c.refuse(path, "a field that this mvm does not know may not be a list")
	}
}

// fieldPattern keeps unmodelled fields from differing from a known one by
// case alone, which some readers of JSON do not see.
var fieldPattern = pattern(`^[a-z0-9_]{1,64}$`)

var wordPattern = pattern(`^[A-Za-z0-9_]{1,32}$`)

func list(item rule) rule {
	return func(c *checker, path string, v any) {
		items, ok := v.([]any)
		if !ok {
			c.refuse(path, "want a list")
			return
		}
		for i, v := range items {
			item(c, fmt.Sprintf("%s[%d]", path, i), v)
		}
	}
}

// integer takes a whole number from lo to hi, written as digits alone.
func integer(lo, hi uint64) rule {
	return func(c *checker, path string, v any) {
		text, ok := v.(json.Number)
		if !ok {
			c.refuse(path, "want a whole number")
			return
		}
		n, err := strconv.ParseUint(text.String(), 10, 64)
		switch {
		case err != nil:
			c.refuse(path, "%s is no whole number from %d to %d", clip(text.String()), lo, hi)
		case n < lo || n > hi:
			c.refuse(path, "%d is outside %d to %d", n, lo, hi)
		}
	}
}

func boolean(c *checker, path string, v any) {
	if _, ok := v.(bool); !ok {
		c.refuse(path, "want true or false")
	}
}

// always takes one value alone.
func always(want bool, why string) rule {
	return func(c *checker, path string, v any) {
		if v != want {
			c.refuse(path, "may only be %t: %s", want, why)
		}
	}
}

func text(c *checker, path string, v any) {
	if _, ok := v.(string); !ok {
		c.refuse(path, "want a string")
	}
}

// lazy is a regular expression that is compiled when it is first used: to compile
// them all would take a good part of a command that needs none.
type lazy func() *regexp.Regexp

func pattern(expr string) lazy {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

func (l lazy) MatchString(s string) bool { return l().MatchString(s) }

func matching(allowed lazy, what string) rule {
	return func(c *checker, path string, v any) {
		if s, ok := v.(string); !ok {
			c.refuse(path, "want a string")
		} else if !allowed.MatchString(s) {
			c.refuse(path, "%s is no %s", clip(strconv.Quote(s)), what)
		}
	}
}

func oneOf(words ...string) rule {
	return func(c *checker, path string, v any) {
		if s, ok := v.(string); !ok || !slices.Contains(words, s) {
			c.refuse(path, "want one of %s", strings.Join(words, ", "))
		}
	}
}

// forbidden refuses whatever is there.
func forbidden(why string) rule {
	return func(c *checker, path string, _ any) { c.refuse(path, "%s", why) }
}

// placeholder takes only the empty string: mvm fills the field in.
func placeholder(c *checker, path string, v any) {
	if v != "" {
		c.refuse(path, "is set by mvm: leave it out")
	}
}

// clip keeps hostile text out of messages beyond a line's worth.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return printable(s)
	}
	return printable(s[:most]) + "…"
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 {
			return '?'
		}
		return r
	}, s)
}
