package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"mvdan.cc/sh/v3/syntax"

	"github.com/auser/mvm/internal/cli"
	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/limacli"
)

// pages are all Markdown files that people read.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == ".cache" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			data, err := os.ReadFile(path)
			all[path] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sources are all Go files but tests.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("../../internal", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// literals are the strings in a Go file.
func literals(t *testing.T, path, text string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, s)
		}
		return true
	})
	return list
}

// TestLinks follows the links from page to page, and to headings.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	all := pages(t)
	for path, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to := path
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			} else if m[2] != "" && !slices.Contains(anchors(all[to]), m[2]) {
				t.Errorf("%s links to %s, which has no heading %s", path, to, m[2])
			}
		}
	}
}

// anchors are the headings of a page as GitHub names them in links.
func anchors(text string) []string {
	var list []string
	for _, m := range regexp.MustCompile("(?m)^#+ (.+)$").FindAllStringSubmatch(text, -1) {
		name := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		list = append(list, regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(name, ""))
	}
	return list
}

// TestCommandsInPages gives every mvm command line in a block of shell to the
// parser of the commands: verbs, flags, their values and the number of words are
// right. Nothing is run.
func TestCommandsInPages(t *testing.T) {
	block := regexp.MustCompile("(?ms)^[ \t]*```sh\n(.*?)^[ \t]*```")
	lines := 0
	for path, text := range pages(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			for _, words := range commandLines(t, path, m[1]) {
				lines++
				if err := parse(words, path); err != nil {
					t.Errorf("%s: mvm %s: %v", path, strings.Join(words, " "), err)
				}
			}
		}
	}
	if lines < 100 {
		t.Errorf("only %d command lines were found", lines)
	}
}

// TestCommandsInText asks the same of what stands in the text, as far as that
// is whole: values may be missing.
func TestCommandsInText(t *testing.T) {
	fence := regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```")
	span := regexp.MustCompile("`(mvm [^`]+)`")
	spans := 0
	for path, text := range pages(t) {
		for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			code := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(strings.Join(strings.Fields(m[1]), " "), "x")
			for _, words := range commandLines(t, path, code) {
				spans++
				if err := parse(words, path); err != nil && !incomplete(err) {
					t.Errorf("%s: `%s`: %v", path, m[1], err)
				}
			}
		}
	}
	if spans < 50 {
		t.Errorf("only %d commands were found", spans)
	}
}

// TestCommandsInMessages asks it of what mvm itself tells people to run.
func TestCommandsInMessages(t *testing.T) {
	command := regexp.MustCompile(`\bmvm(( [a-z][a-z-]*)+)(( --[a-z-]+)*)`)
	for path, text := range sources(t) {
		root := cli.Command()
		if strings.Contains(path, "/lima") {
			root = limacli.Command()
		}
		for _, literal := range literals(t, path, text) {
			for _, m := range command.FindAllStringSubmatch(literal, -1) {
				cmd, rest, err := root.Find(strings.Fields(m[1]))
				known := err == nil && cmd.HasParent()
				if !known && m[3] != "" || known && cmd.HasSubCommands() && len(rest) > 0 && cmd.Name() != "audit" {
					t.Errorf("%s says %q, which is no command", path, m[0])
				}
				for name := range strings.FieldsSeq(m[3]) {
					if name = strings.TrimPrefix(name, "--"); known && name != "help" && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
						t.Errorf("%s says %q, and %s has no --%s", path, m[0], cmd.CommandPath(), name)
					}
				}
			}
		}
	}
}

// TestSettingsExist asks that pages and messages name settings that config.toml
// can hold.
func TestSettingsExist(t *testing.T) {
	known := map[string]bool{}
	for section := range reflect.TypeFor[config.Config]().Fields() {
		if section.Type.Kind() == reflect.Struct {
			for f := range section.Type.Fields() {
				known[tomlName(section)+"."+tomlName(f)] = true
			}
		}
	}
	setting := regexp.MustCompile(`\b(network|build|limits|logs|vmm|secrets)\.[a-z]+(_[a-z]+)*`)
	file := regexp.MustCompile(`^\w+\.(ext|json|log|mvm|target)$`)
	named := 0
	check := func(where, text string) {
		for _, name := range setting.FindAllString(text, -1) {
			if named++; !known[name] && !file.MatchString(name) {
				t.Errorf("%s names %s, which is no setting", where, name)
			}
		}
	}
	for path, text := range pages(t) {
		for _, span := range regexp.MustCompile("`[^`\n]+`").FindAllString(text, -1) {
			check(path, span)
		}
	}
	for path, text := range sources(t) {
		for _, literal := range literals(t, path, text) {
			if strings.Contains(literal, " ") { // a message
				check(path, literal)
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d settings were found", named)
	}
}

func tomlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name
}

// commandLines are the words behind each mvm in a piece of shell. What only the
// shell knows is an x.
func commandLines(t *testing.T, path, code string) [][]string {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(code), path)
	if err != nil {
		t.Errorf("%s: %v:\n%s", path, err, code)
		return nil
	}
	var list [][]string
	syntax.Walk(file, func(node syntax.Node) bool {
		if call, ok := node.(*syntax.CallExpr); ok {
			words := make([]string, len(call.Args))
			for i, w := range call.Args {
				words[i] = plain(w.Parts)
			}
			for len(words) > 1 && (words[0] == "sudo" || words[0] == "exec") {
				words = words[1:]
			}
			if len(words) > 0 && words[0] == "mvm" {
				list = append(list, words[1:])
			}
		}
		return true
	})
	return list
}

func plain(parts []syntax.WordPart) string {
	text := ""
	for _, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			text += p.Value
		case *syntax.SglQuoted:
			text += p.Value
		case *syntax.DblQuoted:
			text += plain(p.Parts)
		default:
			text += "x"
		}
	}
	return text
}

// parse is what happens to a command line before anything is done. Pages about
// the Mac may mean the commands of the Mac.
func parse(words []string, page string) error {
	err := parseBy(cli.Command(), words)
	if err != nil && strings.HasSuffix(page, "macos.md") {
		return parseBy(limacli.Command(), words)
	}
	return err
}

func parseBy(root *cobra.Command, words []string) error {
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	switch err := cmd.ParseFlags(rest); {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return cmd.FlagErrorFunc()(cmd, err)
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// incomplete says whether a command line lacks a word or a value, and is right
// but for that.
func incomplete(err error) bool {
	return regexp.MustCompile(`needs a value| takes .*, got \d| needs --| takes one tenant id and, after --`).MatchString(err.Error())
}

// TestTroubleshooting asks that the messages explained are ones that mvm says,
// and that those are explained which send people there: all with exit code 5,
// and the ones that everybody meets.
func TestTroubleshooting(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings []string
	for _, m := range regexp.MustCompile("(?m)^### `(.+)`$").FindAllStringSubmatch(string(page), -1) {
		headings = append(headings, m[1])
	}
	var said, host []string
	for path, text := range sources(t) {
		said = append(said, literals(t, path, text)...)
		if !strings.Contains(path, "/lima") { // docs/macos.md is about those
			host = append(host, hostErrors(t, path, text)...)
		}
	}
	for _, h := range headings {
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, h) }) {
			t.Errorf("nothing says %q", h)
		}
	}
	if len(host) < 12 {
		t.Errorf("only %d messages with exit code 5 were found", len(host))
	}
	frequent := []string{"it is not built", "no such tenant", "is busy", "it ended before it answered on SSH", "nobody is there to ask", "holds neither flake.nix nor nix/flake.nix", "Nix could not build the guest"}
	for _, message := range append(host, frequent...) {
		if !slices.ContainsFunc(headings, func(h string) bool { return strings.Contains(message, h) }) {
			t.Errorf("docs/troubleshooting.md does not explain %q", message)
		}
	}
}

// hostErrors are the messages of errors that say that the host cannot, as far
// as they are written out.
func hostErrors(t *testing.T, path, text string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		kind, message := "", ""
		for _, e := range lit.Elts {
			field, ok := e.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			switch name, _ := field.Key.(*ast.Ident); name.String() {
			case "Kind":
				kind = text[field.Value.Pos()-1 : field.Value.End()-1]
			case "Msg":
				message = firstLiteral(t, field.Value)
			}
		}
		const whole = 16 // shorter ones are the beginning of a message
		if strings.HasSuffix(kind, "ErrHost") && len(message) >= whole {
			list = append(list, message)
		}
		return true
	})
	return list
}

func firstLiteral(t *testing.T, expr ast.Expr) (text string) {
	t.Helper()
	ast.Inspect(expr, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && text == "" {
			var err error
			if text, err = strconv.Unquote(lit.Value); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	return text
}
