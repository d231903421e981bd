package volume

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

func TestParseSecrets(t *testing.T) {
	got, err := ParseSecrets([]byte(`{
		"token": "s3\u0063ret\n",
		"db": {"main": {"password": "pä\"ss"}, "empty": ""},
		"tls.key": {"base64": "/wD+"},
		"unusual-+@_.": {"base64": ""}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []File{
		{"db/empty", []byte{}},
		{"db/main/password", []byte(`pä"ss`)},
		{"tls.key", []byte{0xff, 0, 0xfe}},
		{"token", []byte("s3cret\n")},
		{"unusual-+@_.", []byte{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := ParseSecrets([]byte(" {} ")); err != nil || len(got) > 0 {
		t.Errorf("no secrets: %v, %v", got, err)
	}
}

// Every refusal says which key or place it is about, and no value.
func TestRefusedSecrets(t *testing.T) {
	const value = "hunter2"
	deep := strings.Repeat(`{"a":`, 9) + `"hunter2"` + strings.Repeat("}", 9)
	many := strings.Builder{}
	for i := range MaxSecrets + 1 {
		fmt.Fprintf(&many, `,"k%d":"hunter2"`, i)
	}
	for name, c := range map[string]struct{ doc, want string }{
		"nothing":             {"", "no valid JSON at line 1, column 1"},
		"no JSON":             {"{\n \"a\": hunter2}", "line 2"},
		"cut off":             {`{"a": "hunter2`, "no valid JSON"},
		"missing comma":       {`{"a": "hunter2" "b": "hunter2"}`, "no valid JSON"},
		"two documents":       {`{"a": "hunter2"} {}`, "line 1, column 17"},
		"garbage behind":      {`{"a": "hunter2"} hunter2`, "line 1, column 17"},
		"list":                {`["hunter2"]`, "a list, want an object"},
		"string":              {`"hunter2"`, "a string, want an object"},
		"null":                {`null`, "null, want an object"},
		"number value":        {`{"pin": 1234}`, `"pin" is a number`},
		"boolean value":       {`{"pin": true}`, `"pin" is true or false`},
		"null value":          {`{"pin": null}`, `"pin" is null`},
		"list value":          {`{"pins": ["hunter2"]}`, `"pins" is a list`},
		"empty object":        {`{"db": {}}`, `"db" is an empty object`},
		"slash":               {`{"a/b": "hunter2"}`, `"a/b": a name holds '/'`},
		"parent":              {`{"..": "hunter2"}`, `"..": a name starts with a dot`},
		"nested parent":       {`{"a": {"..": "hunter2"}}`, `"a/..": a name starts with a dot`},
		"hidden":              {`{".env": "hunter2"}`, `".env": a name starts with a dot`},
		"NUL":                 {`{"a\u0000b": "hunter2"}`, `"a\x00b": a name holds '\x00'`},
		"newline":             {`{"a\nb": "hunter2"}`, `"a\nb": a name holds '\n'`},
		"terminal escape":     {`{"\u001b[31m": "hunter2"}`, `"\x1b[31m": a name holds '\x1b'`},
		"not ASCII":           {`{"schlüssel": "hunter2"}`, `"schlüssel": a name holds 'ü'`},
		"empty name":          {`{"": "hunter2"}`, `a name is empty`},
		"over-long":           {`{"` + strings.Repeat("k", 256) + `": "hunter2"}`, `a name has 256 bytes`},
		"reserved":            {`{"ssh": {"authorized_keys": "hunter2"}}`, `"ssh": this name is reserved`},
		"reserved value":      {`{"ssh": "hunter2"}`, `"ssh": this name is reserved`},
		"lost+found":          {`{"lost+found": "hunter2"}`, `"lost+found": this name is reserved`},
		"twice":               {`{"a": "x", "a": "hunter2"}`, `"a" stands twice`},
		"twice by escape":     {`{"a": "x", "\u0061": "hunter2"}`, `"a" stands twice`},
		"twice, folder":       {`{"a": {"b": "x"}, "a": {"c": "hunter2"}}`, `"a" stands twice`},
		"base64 at top":       {`{"base64": "hunter2"}`, `"base64": the name base64 stands for`},
		"base64 second":       {`{"a": {"x": "y", "base64": "hunter2"}}`, `"a/base64": the name base64 stands for`},
		"base64 and more":     {`{"a": {"base64": "aGk=", "b": "hunter2"}}`, `"a" has a further key`},
		"base64 wrong":        {`{"a": {"base64": "hunter2"}}`, `the base64 of "a" is not valid`},
		"base64 number":       {`{"a": {"base64": 7}}`, `the base64 of "a" is a number`},
		"deep":                {deep, `"a/a/a/a/a/a/a/a/a" lies deeper than 8 levels`},
		"many":                {`{"first": "x"` + many.String() + `}`, "more than 1024 secrets"},
		"large":               {`{"a": "hunter2` + strings.Repeat("x", MaxSecretBytes) + `"}`, "8388615 bytes together, 8388608 are allowed"},
		"huge":                {`{"a": "hunter2` + strings.Repeat("x", maxDocumentSize) + `"}`, "are allowed"},
		"not UTF-8":           {"{\"a\": \"hunter2\xff\"}", "not UTF-8"},
		"half a surrogate":    {`{"a": "hunter2\ud800"}`, `"a" holds what is no Unicode text`},
		"half a key":          {`{"a\ud800": "hunter2"}`, `a name holds`},
		"byte order mark":     {"\ufeff{\"a\": \"hunter2\"}", "no valid JSON"},
		"encrypted":           {"-----BEGIN AGE ENCRYPTED FILE-----\nhunter2", "the secrets are encrypted"},
		"deeply nested lists": {strings.Repeat("[", 100000), "a list, want an object"},
	} {
		got, err := ParseSecrets([]byte(c.doc))
		if err == nil {
			t.Errorf("%s: taken as %v", name, got)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if strings.Contains(err.Error(), value) || strings.Contains(err.Error(), "1234") || len(err.Error()) > 300 {
			t.Errorf("%s: the error shows too much: %v", name, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := Secrets{"token": []byte("hunter2")}
	f := File{"token", []byte("hunter2")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{s, &s, f, &f, []File{f}, s.Files(), map[string]File{"k": f}, struct{ S Secrets }{s}} {
			out := fmt.Sprintf(verb, v)
			for _, leak := range []string{"hunter2", "68756e746572", "104 117 110"} {
				if strings.Contains(strings.ToLower(out), leak) {
					t.Errorf("%s of %T prints %s", verb, v, out)
				}
			}
		}
	}
}

func TestEditSecrets(t *testing.T) {
	s := Secrets{}
	for path, value := range map[string]string{"token": "one", "db/password": "two", "db/user": "\x00\xff"} {
		if err := s.Set(path, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Set("token", []byte("three")); err != nil {
		t.Error(err)
	}
	before := maps.Clone(s)
	for path, want := range map[string]string{
		"db":                   `"db" is a folder: it holds "db/`,
		"token/x":              `"token" is a secret, so "token/x" cannot lie in it`,
		"/token":               "a name is empty",
		"token/":               "a name is empty",
		"db//x":                "a name is empty",
		"../x":                 "starts with a dot",
		"ssh/authorized_keys":  "reserved",
		"db/base64":            "base64",
		"a/a/a/a/a/a/a/a/a/aa": "deeper",
		"":                     "a name is empty",
	} {
		if err := s.Set(path, []byte("hunter2")); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("set %q: %v", path, err)
		}
	}
	for _, path := range []string{"token", "new"} {
		if err := s.Set(path, make([]byte, MaxSecretBytes+1)); err == nil {
			t.Errorf("%s of too many bytes was set", path)
		}
	}
	if diff := cmp.Diff(before, s); diff != "" {
		t.Errorf("refused edits changed (-before +after):\n%s", diff)
	}
	if err := s.Set("new", []byte("five")); err != nil {
		t.Error(err)
	}
	if s.Remove("d") || !s.Remove("token") || s.Remove("token") || !s.Remove("db") {
		t.Error("remove does not tell what it did")
	}
	if diff := cmp.Diff([]string{"new"}, s.List()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestEncodeSecrets(t *testing.T) {
	s := Secrets{
		"db/main/password": []byte("<&>\u2028\n\t\""), "db/user": nil, "raw": {0xff}, "control": []byte("a\x00b"),
		"replacement": []byte("\ufffd"),
	}
	doc, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "control": {
    "base64": "YQBi"
  },
  "db": {
    "main": {
      "password": "<&>\u2028\n\t\""
    },
    "user": ""
  },
  "raw": {
    "base64": "/w=="
  },
  "replacement": {
    "base64": "77+9"
  }
}
`
	if diff := cmp.Diff(want, string(doc)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checkRoundTrip(t, s)
}

func checkRoundTrip(t *testing.T, s Secrets) {
	t.Helper()
	doc, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeSecrets(doc)
	if err != nil {
		t.Fatalf("%v in %s", err, doc)
	}
	if !maps.EqualFunc(s, again, bytes.Equal) {
		t.Errorf("%s decodes to %v", doc, again)
	}
}

// The largest and most awkward secrets that can be set can be read again.
func TestLargestSecretsRoundTrip(t *testing.T) {
	for _, char := range []string{"\"", "\x01"} { // what JSON and base64 blow up most
		s := Secrets{}
		value := []byte(strings.Repeat(char, MaxSecretBytes/2/len(char)))
		for _, path := range []string{"a", "b"} {
			if err := s.Set(path, value); err != nil {
				t.Fatal(err)
			}
		}
		checkRoundTrip(t, s)
	}
}

func FuzzSecrets(f *testing.F) {
	for _, doc := range []string{
		`{"token": "x", "db": {"password": {"base64": "aGk="}}}`, `{"a": "x", "\u0061": "y"}`, `{"ssh": {}}`,
		`{"a": {"base64": "", "b": ""}}`, `{"..": "", "a/b": "", ".": ""}`, `[{}]`, `{"a": "\ud800"}`, `{"a":1e999}`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := DecodeSecrets(doc)
		if err != nil {
			if len(err.Error()) > 500 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("unfit for a terminal: %q", err)
			}
			return
		}
		for _, f := range s.Files() {
			if !filepath.IsLocal(f.Path) || filepath.Clean(f.Path) != f.Path || strings.HasPrefix(f.Path, "ssh") && (f.Path == "ssh" || f.Path[3] == '/') {
				t.Errorf("path %q", f.Path)
			}
			if err := (Secrets{}).Set(f.Path, f.Data); err != nil {
				t.Errorf("decoded, but can't be set: %v", err)
			}
		}
		checkRoundTrip(t, s)
	})
}

func TestSealer(t *testing.T) {
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte(`{"token": "hunter2"}`)
	sealed := map[string][]byte{}
	sealers := map[string]*Sealer{"none": nil}
	for name, identity := range map[string]string{"classic": classic.String(), "hybrid": hybrid.String()} {
		s, err := NewSealer([]byte("# created: today\n" + identity + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if sealed[name], err = s.Seal(plain); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed[name], []byte("hunter2")) || !isSealed(sealed[name]) {
			t.Errorf("%s: sealed to %s", name, sealed[name])
		}
		sealers[name] = s
	}
	for name, s := range sealers {
		if got, err := s.Open(plain); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s opens plain: %q, %v", name, got, err)
		}
		for by, data := range sealed {
			got, err := s.Open(data)
			if by == name {
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s opens its own: %q, %v", name, got, err)
				}
			} else if !errors.Is(err, ErrSealed) {
				t.Errorf("%s opens %s: %q, %v", name, by, got, err)
			}
		}
	}
	cut := sealed["classic"][:len(sealed["classic"])-60]
	if _, err := sealers["classic"].Open(cut); !errors.Is(err, ErrSealed) {
		t.Errorf("cut off: %v", err)
	}
	if got, err := (*Sealer)(nil).Seal(plain); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("without a sealer: %q, %v", got, err)
	}
	for _, file := range []string{"", "# nothing", "hunter2", classic.String()[:40] + "x", classic.Recipient().String()} {
		if _, err := NewSealer([]byte(file)); err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "AGE-") {
			t.Errorf("identity file %q: %v", file, err)
		}
	}
}
