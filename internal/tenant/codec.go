package tenant

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// SchemaVersion is the version of spec.json and state.json that this program
// writes. A file of an older version is migrated when read; fields of a newer
// one are kept as they are.
const SchemaVersion = 1

// extraFields are the fields that a newer version of mvm wrote and this one
// does not know, as a JSON object. They survive a read and a write.
type extraFields = jsontext.Value

// migrations[v] turns a document of version v into one of version v+1.
var migrations = map[int]func(doc map[string]jsontext.Value) error{
	// Version 0 is a file without schema_version, as people write it by hand.
	0: func(map[string]jsontext.Value) error { return nil },
}

type (
	plainSpec  Spec
	plainState State
)

// The documents are the fields of this version and those of a newer one. Their
// fields say omitzero: to this encoder omitempty does not leave out a 0.
type (
	specDocument struct {
		*plainSpec
		Extra extraFields `json:",embed"`
	}
	stateDocument struct {
		*plainState
		Extra extraFields `json:",embed"`
	}
)

// UnmarshalJSON decodes strictly: an unknown field is an error unless a
// newer version of mvm wrote the file, and so is a field that appears twice.
func (s *Spec) UnmarshalJSON(data []byte) error {
	return decode(data, func(raw jsontext.Value, o json.Options) (found, error) {
		*s = Spec{}
		doc := specDocument{plainSpec: (*plainSpec)(s)}
		err := json.Unmarshal(raw, &doc, o)
		s.extra = doc.Extra
		return found{&s.SchemaVersion, s.extra}, err
	})
}

// MarshalJSON writes the known fields and those kept from a newer version.
func (s Spec) MarshalJSON() ([]byte, error) {
	return json.Marshal(specDocument{(*plainSpec)(&s), s.extra})
}

// UnmarshalJSON decodes strictly, like Spec's.
func (s *State) UnmarshalJSON(data []byte) error {
	return decode(data, func(raw jsontext.Value, o json.Options) (found, error) {
		*s = State{}
		doc := stateDocument{plainState: (*plainState)(s)}
		err := json.Unmarshal(raw, &doc, o)
		s.extra = doc.Extra
		return found{&s.SchemaVersion, s.extra}, err
	})
}

// MarshalJSON writes the known fields and those kept from a newer version.
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(stateDocument{(*plainState)(&s), s.extra})
}

// found is what a document turned out to hold besides its known fields.
type found struct {
	version *int
	extra   extraFields
}

// decode reads one document. One of this version, which nearly all are, is
// decoded only once.
func decode(data []byte, into func(jsontext.Value, json.Options) (found, error)) error {
	raw := jsontext.Value(data)
	if raw.Kind() != '{' {
		return fmt.Errorf("want a JSON object")
	}
	known := func(raw jsontext.Value) (found, error) {
		f, err := into(raw, json.RejectUnknownMembers(true))
		if err == nil && len(f.extra) > 0 {
			err = fmt.Errorf("unknown field in %s", f.extra)
		}
		return f, err
	}
	f, err := known(raw)
	if err == nil && *f.version == SchemaVersion {
		return nil
	}
	var doc map[string]jsontext.Value
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	from := 0
	if field, ok := doc["schema_version"]; ok {
		if err := json.Unmarshal(field, &from); err != nil || from < 0 {
			return fmt.Errorf("schema_version %s is no version", field)
		}
	}
	switch {
	case from == SchemaVersion:
		return err
	case from > SchemaVersion:
		_, err := into(raw, json.RejectUnknownMembers(false))
		return err
	}
	for v := from; v < SchemaVersion; v++ {
		if err := migrations[v](doc); err != nil {
			return fmt.Errorf("cannot migrate from schema version %d: %w", v, err)
		}
	}
	if raw, err = json.Marshal(doc, json.Deterministic(true)); err != nil {
		return err
	}
	f, err = known(raw)
	*f.version = SchemaVersion
	return err
}
