package volume

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a tenant's secrets.
const (
	MaxSecretBytes  = 8 << 20 // all values together
	MaxSecrets      = 1024
	maxSecretDepth  = 8        // names on the way to a value
	maxNameBytes    = 255      // what a file name may have
	maxDocumentSize = 32 << 20 // room for what JSON escapes
)

// File is a file for the secrets volume. It prints as its path alone.
type File struct {
	Path string // below the volume's root, such as db/password
	Data []byte `json:"-"`
}

// Format implements fmt.Formatter, so that no verb prints the data.
func (f File) Format(s fmt.State, _ rune) { fmt.Fprint(s, f.Path) }

// Secrets are the tenant's own secrets: what secrets.json holds. Paths, such
// as db/password, lead to values. They print as their number alone.
type Secrets map[string][]byte

// Format implements fmt.Formatter, so that no verb prints the values.
func (s Secrets) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%d secrets", len(s)) }

// ParseSecrets reads secrets.json and returns its secrets as files, ordered by
// path. Its errors name keys and places, never values.
func ParseSecrets(data []byte) ([]File, error) {
	s, err := DecodeSecrets(data)
	if err != nil {
		return nil, err
	}
	return s.Files(), nil
}

// DecodeSecrets reads a document such as
//
//	{"token": "…", "tls": {"key": {"base64": "…"}}}
//
// in which a nested object is a folder and the value of a key is a string or,
// for bytes that are no text, an object with the one key base64.
func DecodeSecrets(data []byte) (Secrets, error) {
	s := Secrets{}
	if err := s.decode(data); err != nil {
		return nil, fmt.Errorf("cannot read the secrets: %w", err)
	}
	return s, nil
}

func (s Secrets) decode(data []byte) error {
	if len(data) > maxDocumentSize {
		return fmt.Errorf("the document has %d bytes, %d are allowed", len(data), maxDocumentSize)
	}
	if isSealed(data) {
		return ErrSealed
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("the document is not UTF-8; write other bytes as {\"base64\": …}")
	}
	d := &secretsDecoder{json: json.NewDecoder(bytes.NewReader(data)), data: data, secrets: s}
	d.json.UseNumber()
	token, err := d.token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return fmt.Errorf("the document is %s, want an object", kindOf(token))
	}
	if _, err := d.object("", 0); err != nil {
		return err
	}
	end := d.place()
	if _, err := d.json.Token(); err != io.EOF {
		return fmt.Errorf("there is something behind the object that ends %s", end)
	}
	return s.checkTotal()
}

// secretsDecoder walks over a document token by token: encoding/json would
// silently let the last of two equal keys win.
type secretsDecoder struct {
	json    *json.Decoder
	data    []byte
	secrets Secrets
}

// token returns the next token. The decoder's own errors quote the document,
// so they are replaced by the place.
func (d *secretsDecoder) token() (json.Token, error) {
	token, err := d.json.Token()
	if err != nil {
		return nil, fmt.Errorf("the document is no valid JSON %s", d.place())
	}
	return token, nil
}

func (d *secretsDecoder) place() string {
	before := d.data[:min(int(d.json.InputOffset()), len(d.data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("at line %d, column %d", line, column)
}

// object reads the rest of the object at path. Where that is a single value in
// base64, it is returned; else the object was a folder and the result nil.
func (d *secretsDecoder) object(path string, depth int) (value []byte, err error) {
	seen := map[string]bool{}
	for {
		token, err := d.token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok { // the closing brace
			break
		}
		if name == "base64" && path != "" && len(seen) == 0 {
			return d.base64(path)
		}
		child := join(path, name)
		if err := checkName(child, name); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fmt.Errorf("the key %s stands twice", quotePath(child))
		}
		seen[name] = true
		if err := d.value(child, depth+1); err != nil {
			return nil, err
		}
	}
	if len(seen) == 0 && path != "" {
		return nil, fmt.Errorf("%s is an empty object", quotePath(path))
	}
	return nil, nil
}

func (d *secretsDecoder) value(path string, depth int) error {
	if depth > maxSecretDepth {
		return fmt.Errorf("%s lies deeper than %d levels", quotePath(path), maxSecretDepth)
	}
	token, err := d.token()
	if err != nil {
		return err
	}
	var value []byte
	switch v := token.(type) {
	case string:
		if value, err = text(path, v); err != nil {
			return err
		}
	case json.Delim:
		if v != '{' {
			return fmt.Errorf("%s is a list, want a string or an object", quotePath(path))
		}
		if value, err = d.object(path, depth); err != nil || value == nil {
			return err
		}
	default:
		return fmt.Errorf("%s is %s, want a string or an object", quotePath(path), kindOf(token))
	}
	if len(d.secrets) == MaxSecrets {
		return fmt.Errorf("there are more than %d secrets", MaxSecrets)
	}
	d.secrets[path] = value
	return nil
}

// base64 reads what follows the key base64 in the object at path.
func (d *secretsDecoder) base64(path string) ([]byte, error) {
	token, err := d.token()
	if err != nil {
		return nil, err
	}
	encoded, ok := token.(string)
	if !ok {
		return nil, fmt.Errorf("the base64 of %s is %s, want a string", quotePath(path), kindOf(token))
	}
	value, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("the base64 of %s is not valid", quotePath(path))
	}
	if token, err = d.token(); err != nil {
		return nil, err
	}
	if token != json.Delim('}') {
		return nil, fmt.Errorf("%s has a further key beside base64", quotePath(path))
	}
	return value, nil
}

// text is a value given as a string. JSON can hold half of a surrogate pair,
// which decodes to the replacement character: the value would be another.
func text(path, s string) ([]byte, error) {
	if strings.ContainsRune(s, utf8.RuneError) {
		return nil, fmt.Errorf("%s holds what is no Unicode text; write it as {\"base64\": …}", quotePath(path))
	}
	return []byte(s), nil
}

func kindOf(token json.Token) string {
	switch v := token.(type) {
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case nil:
		return "null"
	case json.Delim:
		if v == '[' {
			return "a list"
		}
	}
	return "an object"
}

// Encode writes the document that DecodeSecrets reads.
func (s Secrets) Encode() ([]byte, error) {
	root := map[string]any{}
	for path, value := range s {
		folder := root
		names := strings.Split(path, "/")
		for _, name := range names[:len(names)-1] {
			next, ok := folder[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				folder[name] = next
			}
			folder = next
		}
		name := names[len(names)-1]
		if isText(value) {
			folder[name] = string(value)
		} else {
			folder[name] = map[string]string{"base64": base64.StdEncoding.EncodeToString(value)}
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// isText tells whether a value is best written as a string: without what JSON
// can't hold or would blow up to six characters.
func isText(value []byte) bool {
	return utf8.Valid(value) && !bytes.ContainsFunc(value, func(r rune) bool {
		return r == utf8.RuneError || r < ' ' && r != '\n' && r != '\r' && r != '\t'
	})
}

// Files are the secrets as files, ordered by path.
func (s Secrets) Files() []File {
	files := make([]File, 0, len(s))
	for _, path := range s.List() {
		files = append(files, File{Path: path, Data: s[path]})
	}
	return files
}

// List is every path, in order.
func (s Secrets) List() []string { return slices.Sorted(maps.Keys(s)) }

// Set adds a secret or changes its value.
func (s Secrets) Set(path string, value []byte) error {
	if err := s.checkNew(path); err != nil {
		return err
	}
	old, had := s[path]
	s[path] = value
	if err := s.checkTotal(); err != nil {
		if delete(s, path); had {
			s[path] = old
		}
		return err
	}
	return nil
}

// Remove removes the secret at path, or all in the folder of that path, and
// reports whether there was one.
func (s Secrets) Remove(path string) bool {
	before := len(s)
	maps.DeleteFunc(s, func(p string, _ []byte) bool { return p == path || strings.HasPrefix(p, path+"/") })
	return len(s) < before
}

// checkNew says why no secret can stand at path.
func (s Secrets) checkNew(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	for other := range s {
		if strings.HasPrefix(other, path+"/") {
			return fmt.Errorf("%s is a folder: it holds %s", quotePath(path), quotePath(other))
		}
		if strings.HasPrefix(path, other+"/") {
			return fmt.Errorf("%s is a secret, so %s cannot lie in it", quotePath(other), quotePath(path))
		}
	}
	return nil
}

func (s Secrets) checkTotal() error {
	total := 0
	for _, value := range s {
		total += len(value)
	}
	if total > MaxSecretBytes {
		return fmt.Errorf("the secrets have %d bytes together, %d are allowed", total, MaxSecretBytes)
	}
	if len(s) > MaxSecrets {
		return fmt.Errorf("there are %d secrets, %d are allowed", len(s), MaxSecrets)
	}
	return nil
}

func checkPath(path string) error {
	names := strings.Split(path, "/")
	if len(names) > maxSecretDepth {
		return fmt.Errorf("%s lies deeper than %d levels", quotePath(path), maxSecretDepth)
	}
	for i, name := range names {
		if err := checkName(strings.Join(names[:i+1], "/"), name); err != nil {
			return err
		}
	}
	return nil
}

// checkName says why a key cannot be the name of a file or folder in the
// guest. path is the whole way to it, which ends in name. Only characters that
// need no quoting anywhere are allowed, so one name has one spelling.
func checkName(path, name string) error {
	quoted := quotePath(path)
	switch {
	case name == "":
		return fmt.Errorf("%s: a name is empty", quoted)
	case len(name) > maxNameBytes:
		return fmt.Errorf("%s: a name has %d bytes, %d are allowed", quoted, len(name), maxNameBytes)
	case name[0] == '.':
		return fmt.Errorf("%s: a name starts with a dot", quoted)
	case name == "base64":
		return fmt.Errorf("%s: the name base64 stands for an encoded value, alone in its object", quoted)
	case path == "ssh" || path == "lost+found":
		return fmt.Errorf("%s: this name is reserved", quoted)
	}
	for _, c := range name {
		if !strings.ContainsRune(nameCharacters, c) {
			return fmt.Errorf("%s: a name holds %q; letters, digits and %s are allowed", quoted, c, nameCharacters[62:])
		}
	}
	return nil
}

const nameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+@"

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// quotePath makes a path fit for a message.
func quotePath(path string) string {
	const max = 80
	if len(path) > max {
		path = strings.ToValidUTF8(path[:max], "") + "…"
	}
	return fmt.Sprintf("%q", path)
}
