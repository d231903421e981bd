package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/cli"
)

// TestJSONIsAsDocumented prints a value of every command's type, with all that it
// can hold, and reads it by docs/json.md: field by field, each of its kind.
func TestJSONIsAsDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	page := readPage(string(data))
	outputs := cli.Outputs()
	if len(page.commands) != len(outputs) || len(outputs) < 20 {
		t.Errorf("%d commands are documented, %d print JSON", len(page.commands), len(outputs))
	}
	for name, typ := range outputs {
		text, err := json.Marshal(filled(typ).Interface())
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
		for _, problem := range page.check(page.commands[name], value, name) {
			t.Error(problem)
		}
	}
}

// jsonDoc is docs/json.md: the kind of what each command prints, and the kinds
// of the fields of each object.
type jsonDoc struct {
	commands map[string]string
	objects  map[string]map[string]string
}

func readPage(text string) jsonDoc {
	page := jsonDoc{map[string]string{}, map[string]map[string]string{}}
	for _, m := range regexp.MustCompile("(?m)^- `(.*) --json`: (.*)$").FindAllStringSubmatch(text, -1) {
		page.commands[m[1]] = m[2]
	}
	for _, section := range strings.Split(text, "\n## ")[1:] {
		name, rest, _ := strings.Cut(section, "\n")
		fields := map[string]string{}
		for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]*) \\|").FindAllStringSubmatch(rest, -1) {
			fields[m[1]] = m[2]
		}
		page.objects[name] = fields
	}
	return page
}

var link = regexp.MustCompile(`^\[(.*)\]\(#.*\)$`)

// check compares a value with its documented kind.
func (d jsonDoc) check(kind string, value any, at string) (problems []string) {
	wrong := func() []string { return []string{fmt.Sprintf("%s is %T, and %q is documented", at, value, kind)} }
	if item, ok := strings.CutPrefix(kind, "list of "); ok {
		list, isList := value.([]any)
		if !isList || len(list) == 0 {
			return wrong()
		}
		return d.check(item, list[0], at+"[]")
	}
	if item, ok := strings.CutPrefix(kind, "object of "); ok {
		object, isObject := value.(map[string]any)
		if !isObject || len(object) == 0 {
			return wrong()
		}
		for key, v := range object {
			problems = append(problems, d.check(strings.TrimSuffix(item, " by name"), v, at+"."+key)...)
		}
		return problems
	}
	if m := link.FindStringSubmatch(kind); m != nil {
		object, isObject := value.(map[string]any)
		fields := d.objects[m[1]]
		if !isObject || fields == nil {
			return wrong()
		}
		have, want := slices.Sorted(maps.Keys(object)), slices.Sorted(maps.Keys(fields))
		if !slices.Equal(have, want) {
			return []string{fmt.Sprintf("%s has the fields %s, and %s are documented", at, have, want)}
		}
		for key, v := range object {
			problems = append(problems, d.check(fields[key], v, at+"."+key)...)
		}
		return problems
	}
	right := false
	switch value.(type) {
	case string:
		right = kind == "string" || kind == "time"
	case float64:
		right = kind == "number" || kind == "nanoseconds"
	case bool:
		right = kind == "true or false"
	}
	if !right && kind != "any" {
		return wrong()
	}
	return nil
}

// filled is a value of t in which nothing is empty.
func filled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1, 0)))
		return v
	case t == reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte("{}"))
		return v
	case t == reflect.TypeFor[any]():
		v.Set(reflect.ValueOf("x"))
		return v
	}
	switch t.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(filled(t.Elem()))
	case reflect.Slice:
		v.Set(reflect.Append(v, filled(t.Elem())))
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(filled(t.Key()), filled(t.Elem()))
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				v.Field(i).Set(filled(t.Field(i).Type))
			}
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	}
	return v
}
