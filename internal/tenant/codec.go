package tenant

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// SchemaVersion is the version of spec.json and state.json that this program
// writes. A file of an older version is migrated when read; fields of a newer
// one are kept as they are.
const SchemaVersion = 1

// extraFields are the fields that a newer version of mvm wrote and this one
// does not know. They survive a read and a write.
type extraFields map[string]json.RawMessage

// migrations[v] turns a document of version v into one of version v+1.
var migrations = map[int]func(doc map[string]json.RawMessage) error{
	// Version 0 is a file without schema_version, as people write it by hand.
	0: func(map[string]json.RawMessage) error { return nil },
}

// UnmarshalJSON decodes strictly: an unknown field is an error unless a newer
// version of mvm wrote the file.
func (s *Spec) UnmarshalJSON(data []byte) error {
	type plain Spec
	return decode(data, (*plain)(s), &s.SchemaVersion, &s.extra)
}

// MarshalJSON writes the known fields and those kept from a newer version.
func (s Spec) MarshalJSON() ([]byte, error) {
	type plain Spec
	return encode(plain(s), s.extra)
}

// UnmarshalJSON decodes strictly, like Spec's.
func (s *State) UnmarshalJSON(data []byte) error {
	type plain State
	return decode(data, (*plain)(s), &s.SchemaVersion, &s.extra)
}

// MarshalJSON writes the known fields and those kept from a newer version.
func (s State) MarshalJSON() ([]byte, error) {
	type plain State
	return encode(plain(s), s.extra)
}

func decode(data []byte, into any, version *int, extra *extraFields) error {
	doc, err := object(data)
	if err != nil {
		return err
	}
	from := 0
	if raw, ok := doc["schema_version"]; ok {
		if err := json.Unmarshal(raw, &from); err != nil || from < 0 {
			return fmt.Errorf("schema_version %s is no version", raw)
		}
	}
	for v := from; v < SchemaVersion; v++ {
		if err := migrations[v](doc); err != nil {
			return fmt.Errorf("cannot migrate from schema version %d: %w", v, err)
		}
	}
	known := fieldNames(into)
	*extra = nil
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		if known[name] {
			continue
		}
		if from <= SchemaVersion {
			return fmt.Errorf("unknown field %q", name)
		}
		if *extra == nil {
			*extra = extraFields{}
		}
		(*extra)[name] = doc[name]
		delete(doc, name)
	}
	migrated, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(migrated))
	if from <= SchemaVersion {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(into); err != nil {
		return err
	}
	*version = max(from, SchemaVersion)
	return nil
}

// object splits a JSON object into its fields and refuses what encoding/json
// lets pass: two fields of one name, and anything after the object.
func object(data []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, fmt.Errorf("want a JSON object")
	}
	doc := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := t.(string) // the decoder yields only strings as field names
		if _, twice := doc[name]; twice {
			return nil, fmt.Errorf("field %q appears twice", name)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		doc[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the JSON object")
	}
	return doc, nil
}

func fieldNames(v any) map[string]bool {
	names := map[string]bool{}
	t := reflect.TypeOf(v).Elem()
	for _, field := range reflect.VisibleFields(t) { // those of embedded structs, too
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			names[name] = true
		}
	}
	return names
}

func encode(v any, extra extraFields) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil || len(extra) == 0 {
		return data, err
	}
	doc, err := object(data)
	if err != nil {
		return nil, err
	}
	maps.Copy(doc, extra)
	return json.Marshal(doc)
}
