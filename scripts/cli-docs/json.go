package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/cli"
)

const jsonIntro = `# JSON

This page is generated from the program's types: ` + "`make docs`" + ` writes it, and a
test holds it to them.

What a command prints with ` + "`--json`" + ` has these fields. They are stable: within
one major version fields are added, and none is renamed, removed or given another
meaning. So readers should pass over fields that they do not know. Sizes are in
bytes and times in RFC 3339 unless a name says otherwise. *Optional* fields are
left out where they say nothing.

`

// jsonPage documents what every command prints with --json. module is the
// repository's folder, in whose sources the fields' comments are.
func jsonPage(module string) (string, error) {
	p := &jsonWriter{module: module, comments: map[string]map[string]string{}, todo: map[reflect.Type]bool{}}
	p.WriteString(jsonIntro)
	outputs := cli.Outputs()
	for _, name := range slices.Sorted(maps.Keys(outputs)) {
		fmt.Fprintf(p, "- `%s --json`: %s\n", name, p.name(outputs[name]))
	}
	done := map[string]bool{}
	for {
		var next []reflect.Type
		for t := range p.todo {
			if !done[t.String()] {
				next = append(next, t)
			}
		}
		if len(next) == 0 {
			return p.String(), nil
		}
		slices.SortFunc(next, func(a, b reflect.Type) int { return strings.Compare(a.String(), b.String()) })
		done[next[0].String()] = true
		if err := p.section(next[0]); err != nil {
			return "", err
		}
	}
}

type jsonWriter struct {
	strings.Builder
	module   string
	comments map[string]map[string]string // by package, then Type or Type.Field
	todo     map[reflect.Type]bool
}

const modulePath = "github.com/auser/mvm/"

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// name says what a type is in JSON, and asks for a section where it is an
// object.
func (p *jsonWriter) name(t reflect.Type) string {
	switch {
	case t.PkgPath() == "time" && t.Name() == "Duration":
		return "nanoseconds"
	case t.PkgPath() == "time":
		return "time"
	case t == reflect.TypeFor[json.RawMessage]():
		return "any"
	case t.Kind() == reflect.Struct && strings.HasPrefix(t.PkgPath(), modulePath): // also where it writes itself
		p.todo[t] = true
		return fmt.Sprintf("[%s](#%s)", t.String(), anchor(t))
	case t.Implements(marshaler), t.Implements(textMarshaler), reflect.PointerTo(t).Implements(textMarshaler):
		return "string"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return p.name(t.Elem())
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "string"
		}
		return "list of " + p.name(t.Elem())
	case reflect.Map:
		return "object of " + p.name(t.Elem()) + " by name"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "true or false"
	case reflect.Interface:
		return "any"
	}
	return "number"
}

// anchor is how GitHub links to the heading of t.
func anchor(t reflect.Type) string { return strings.ToLower(strings.ReplaceAll(t.String(), ".", "")) }

func (p *jsonWriter) section(t reflect.Type) error {
	said, err := p.of(t.PkgPath())
	if err != nil {
		return err
	}
	fmt.Fprintf(p, "\n## %s\n\n", t.String())
	if text := said[t.Name()]; text != "" {
		fmt.Fprintf(p, "%s\n\n", text)
	}
	p.WriteString("| field | type | meaning |\n|---|---|---|\n")
	return p.fields(t, map[string]bool{})
}

// fields writes those of t, and in their place those of what it embeds. A field
// hides those of the same name that are embedded.
func (p *jsonWriter) fields(t reflect.Type, hidden map[string]bool) error {
	said, err := p.of(t.PkgPath())
	if err != nil {
		return err
	}
	own := map[string]bool{}
	var embedded []reflect.Type
	for f := range fieldsOf(t) {
		tag, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			embedded = append(embedded, f.Type)
			continue
		}
		if tag == "-" || !f.IsExported() {
			continue
		}
		if tag == "" {
			tag = f.Name
		}
		if hidden[tag] {
			continue
		}
		own[tag] = true
		meaning := strings.ReplaceAll(said[t.Name()+"."+f.Name], "|", "\\|")
		if strings.Contains(rest, "omit") {
			meaning = strings.TrimSpace("*optional* " + meaning)
		}
		fmt.Fprintf(p, "| `%s` | %s | %s |\n", tag, p.name(f.Type), meaning)
	}
	maps.Copy(own, hidden)
	for _, e := range embedded {
		if err := p.fields(e, own); err != nil {
			return err
		}
	}
	return nil
}

func fieldsOf(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

// of reads the comments of a package's structs and of their fields.
func (p *jsonWriter) of(pkg string) (map[string]string, error) {
	if said := p.comments[pkg]; said != nil {
		return said, nil
	}
	said := map[string]string{}
	p.comments[pkg] = said
	dir := filepath.Join(p.module, strings.TrimPrefix(pkg, modulePath))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if decl, ok := n.(*ast.GenDecl); ok {
				readComments(decl, said)
			}
			return true
		})
	}
	return said, nil
}

func readComments(decl *ast.GenDecl, said map[string]string) {
	for _, spec := range decl.Specs {
		typ, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		object, ok := typ.Type.(*ast.StructType)
		if !ok {
			continue
		}
		said[typ.Name.Name] = oneLine(decl.Doc)
		for _, f := range object.Fields.List {
			text := oneLine(f.Comment)
			if text == "" {
				text = oneLine(f.Doc)
			}
			for _, name := range f.Names {
				said[typ.Name.Name+"."+name.Name] = text
			}
		}
	}
}

func oneLine(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return strings.Join(strings.Fields(c.Text()), " ")
}
