package fcconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of a document, far above what any configuration needs.
const (
	maxDocument = 256 << 10
	maxDepth    = 16
)

// parseDocument reads one JSON object and refuses what encoding/json lets
// pass: fields named twice, text after the object, invalid UTF-8, and depth
// or size beyond reason. Fields whose value is null are left out, as
// Firecracker takes null for an absent field. Numbers stay json.Number.
func parseDocument(data []byte) (map[string]any, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("the document has %d bytes, at most %d are allowed", len(data), maxDocument)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("the document is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, "", 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("want a JSON object")
	}
	return doc, nil
}

func parseValue(dec *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, &Refusal{path, fmt.Sprintf("nested more than %d deep", maxDepth)}
	}
	token, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", noEOF(err))
	}
	switch token {
	case json.Delim('{'):
		return parseObject(dec, path, depth)
	case json.Delim('['):
		return parseList(dec, path, depth)
	}
	return token, nil
}

func parseObject(dec *json.Decoder, path string, depth int) (any, error) {
	object, seen := map[string]any{}, map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("not valid JSON: %w", noEOF(err))
		}
		name := token.(string) // the decoder yields only strings as field names
		at := join(path, name)
		if seen[name] {
			return nil, &Refusal{at, "appears twice"}
		}
		seen[name] = true
		v, err := parseValue(dec, at, depth+1)
		if err != nil {
			return nil, err
		}
		if v != nil {
			object[name] = v
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("not valid JSON: %w", noEOF(err))
	}
	return object, nil
}

func parseList(dec *json.Decoder, path string, depth int) (any, error) {
	list := []any{}
	for dec.More() {
		v, err := parseValue(dec, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	if _, err := dec.Token(); err != nil { // the closing bracket
		return nil, fmt.Errorf("not valid JSON: %w", noEOF(err))
	}
	return list, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
