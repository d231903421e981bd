package cli

import (
	"io"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/spf13/cobra"
)

// jsonFlag adds --json, which every reading command has.
// What it prints is of v's type: docs/json.md is made from it.
func (a *app) jsonFlag(cmd *cobra.Command, v any) {
	if a.outputs == nil {
		a.outputs = map[*cobra.Command]reflect.Type{}
	}
	a.outputs[cmd] = reflect.TypeOf(v)
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

// output prints v as JSON where that is asked for, and else for people.
func output[T any](a *app, v T, forPeople func(T) error) error {
	if a.json {
		return a.printJSON(v)
	}
	return forPeople(v)
}

func (a *app) printJSON(v any) error { return writeJSON(a.Out, v) }

func writeJSON(w io.Writer, v any) error {
	if err := json.MarshalWrite(w, v, jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false), jsontext.WithIndent("  ")); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// orEmpty makes JSON's [] of no items, where it would be null.
func orEmpty[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
