package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/auser/mvm/internal/tenant"
)

func TestRoundTrip(t *testing.T) {
	yes := true
	wishes := []Wish{
		{Spec: tenant.Spec{TenantID: "acme", FlakeRef: "/f", VCPUs: 2, Egress: "allow:198.51.100.0/24:tcp/443", Restart: "no", Volumes: tenant.Volumes{
			{Mount: "/work", SizeMiB: 64}, {Mount: "/srv/web", Folder: "/home/ann/a:b"},
		}}, Running: &yes},
		{Spec: tenant.Spec{TenantID: "web", FlakeRef: "github:o/r", Machine: tenant.Machine{
			Balloon: "0", HugePages: true, CPUTemplate: "T2", DiskMiBPerSec: 1, DiskOpsPerSec: 2, NetRxMbit: 3, NetTxMbit: 4, NetRxPktsPerSec: 5, NetTxPktsPerSec: 6,
		}}},
	}
	for i := range wishes {
		wishes[i].Spec.Defaults()
	}
	data, err := Encode(wishes)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(data)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	if diff := cmp.Diff(wishes, back, cmp.AllowUnexported(), cmp.Comparer(func(a, b tenant.Spec) bool { return reflect.DeepEqual(a, b) })); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsAndYAMLsOwnBooleans(t *testing.T) {
	wishes, err := Parse([]byte("version: 1\ntenants:\n  a:\n  b: {restart: no}\n"))
	if err != nil || len(wishes) != 2 || wishes[0].Spec.MemMiB != tenant.DefaultMemMiB || wishes[1].Spec.Restart != "no" || wishes[0].Running != nil {
		t.Errorf("%+v, %v", wishes, err)
	}
}

func TestStrict(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "it names no version",
		"version: 2":                             "version 2",
		"version: 1\ntenant: {}":                 "field tenant not found",
		"version: 1\n---\nx: 1":                  "more than one document",
		"version: 1\ntenants: [a]":               "line 2: want a mapping, not a list",
		"version: 1\ntenants: {a: {vcpus: two}}": "line 2: want a number, not `two`",
		"version: 1\ntenants:\n  a:\n    vcpu: 2":                   "line 4: field vcpu not found",
		"version: 1\ntenants: {a: {vcpus: 99}}":                     "tenant a: 99 vCPUs",
		"version: 1\ntenants: {A: {}}":                              `tenant A: "A" is no tenant id`,
		"version: 1\ntenants:\n  a: {}\n  a: {}":                    "already defined",
		"version: 1\ntenants: {a: {egress: closed}}":                "no egress policy",
		"version: 1\ntenants: {a: {volumes: [x]}}":                  `"x" is no volume`,
		"version: 1\ntenants: {a: {volumes: ['2G:/data']}}":         "stands twice, or is none",
		"version: 1\ntenants: {a: {volumes: ['none:/w']}}":          "stands twice, or is none",
		"version: 1\ntenants: {a: {volumes: ['1G:/w', '2G:/w']}}":   "stands twice, or is none",
		"version: 1\ntenants: {a: {volumes: ['1G:/w', '2G:/w/x']}}": "lie in one another",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestEveryFieldOfASpec finds what a tenant can have and the file cannot say.
func TestEveryFieldOfASpec(t *testing.T) {
	want := []string{"running"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[tenant.Spec]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch name {
		case "", "schema_version", "tenant_id": // not for people, and the key
		case "flake_ref":
			want = append(want, "flake")
		default:
			want = append(want, name)
		}
	}
	have := itemFields()
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func itemFields() []string {
	var fields []string
	for f := range reflect.TypeFor[item]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		fields = append(fields, name)
	}
	return fields
}

// TestBombs are files that want to become much larger than they are.
func TestBombs(t *testing.T) {
	laughs := "version: 1\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	merges := "version: 1\ntenants:\n  t0: &t0 {vcpus: 2}\n"
	for i := 1; i < 40; i++ {
		merges += fmt.Sprintf("  t%d: &t%d {<<: [%s]}\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*t%d,", i-1), 10), ","))
	}
	for name, text := range map[string]string{
		"aliases of aliases": laughs, "merges of merges": merges,
		"a tenant that holds itself": "version: 1\ntenants: &t\n  a: *t\n",
		"deep lists":                 "version: 1\ntenants: " + strings.Repeat("[", 1<<20),
		"deep objects":               "version: 1\ntenants: " + strings.Repeat("{a: ", 1<<18),
	} {
		ended := make(chan error, 1)
		go func() {
			_, err := Parse([]byte(text))
			ended <- err
		}()
		select {
		case err := <-ended:
			var input *tenant.InputError
			if !errors.As(err, &input) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(time.Minute): // exponential ones take years
			t.Fatalf("%s: no end", name)
		}
	}
	// What they are good for works.
	wishes, err := Parse([]byte("version: 1\ntenants:\n  a: &like {vcpus: 2, mem_mib: 256}\n  b: {<<: *like, vcpus: 4}\n"))
	if err != nil || len(wishes) != 2 || wishes[1].Spec.VCPUs != 4 || wishes[1].Spec.MemMiB != 256 {
		t.Errorf("%+v, %v", wishes, err)
	}
}

// FuzzParse asks that what can be read can be written, and read again as the
// same.
func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\ntenants:\n  a: {restart: no, balloon: 0, running: true}\n  b:\n"))
	f.Add([]byte("version: 1\ntenants: {a: &x {egress: 'allow:10.0.0.0/8:tcp/443'}, b: *x}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		wishes, err := Parse(data)
		if err != nil {
			return
		}
		text, err := Encode(wishes)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(text)
		if err != nil || !reflect.DeepEqual(back, wishes) {
			t.Errorf("%q became %q: %+v, %v", data, text, back, err)
		}
	})
}

// TestSchemaOnExamples asks of an independent validator what editors will say of
// the files that the docs and the tests have.
func TestSchemaOnExamples(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/tenants.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text string) error {
		t.Helper()
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(value)
	}
	examples := 0
	for _, page := range []string{"../../docs/cli.md", "../../docs/tutorial.md", "../cli/testdata/script/apply.txt"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, example := range regexp.MustCompile(`(?m)^ *version: 1\n *tenants:.*\n( +.*\n)+`).FindAllString(string(text), -1) {
			if strings.Contains(example, "vcpu:") || strings.Count(example, "acme:") > 1 { // made to be refused
				continue
			}
			examples++
			if err := validate(example); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, example)
			}
		}
	}
	if examples < 6 {
		t.Errorf("only %d examples were found", examples)
	}
	yes := true
	spec := tenant.Spec{TenantID: "acme", FlakeRef: "/f", Restart: "on-failure:5", Egress: "allow:198.51.100.0/24:tcp/443", Machine: tenant.Machine{Balloon: "0", HugePages: true, CPUTemplate: "T2", NetRxMbit: 3}}
	spec.Defaults()
	text, err := Encode([]Wish{{Spec: spec, Running: &yes}})
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(string(text)); err != nil {
		t.Errorf("what export writes: %v in\n%s", err, text)
	}
	// What the program refuses by its form, an editor marks, too.
	for _, wrong := range []string{
		"tenants: {}", "version: 2\ntenants: {}", "version: 1\ntenant: {}", "version: 1\ntenants: [a]", "version: 1\ntenants: {A: {}}",
		"version: 1\ntenants: {a: {vcpu: 2}}", "version: 1\ntenants: {a: {vcpus: 99}}", "version: 1\ntenants: {a: {mem_mib: 1}}",
		"version: 1\ntenants: {a: {egress: closed}}", "version: 1\ntenants: {a: {restart: sometimes}}", "version: 1\ntenants: {a: {running: perhaps}}",
		"version: 1\ntenants: {a: {cpu_template: T9}}", "version: 1\ntenants: {a: {profile: 'a b'}}", "version: 1\ntenants: {a: {restart: 'on-failure:1001'}}",
	} {
		if _, err := Parse([]byte(wrong)); err == nil && !strings.HasPrefix(wrong, "tenants") {
			t.Errorf("the program takes %q", wrong)
		}
		if err := validate(wrong); err == nil {
			t.Errorf("the schema takes %q", wrong)
		}
	}
}

// TestSchema holds docs/tenants.schema.json to the code.
func TestSchema(t *testing.T) {
	data, err := os.ReadFile("../../docs/tenants.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs struct {
			Tenant struct {
				Properties map[string]struct {
					Default any
					Maximum float64
				}
				AdditionalProperties bool
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	props := schema.Defs.Tenant.Properties
	fields := itemFields()
	for name := range props {
		if !slices.Contains(fields, name) {
			t.Errorf("the schema has %s, the code has not", name)
		}
	}
	for _, name := range fields {
		if _, ok := props[name]; !ok {
			t.Errorf("the code has %s, the schema has not", name)
		}
	}
	if props["mem_mib"].Default != float64(tenant.DefaultMemMiB) || props["vcpus"].Maximum != tenant.MaxVCPUs || schema.Defs.Tenant.AdditionalProperties {
		t.Errorf("defaults or limits differ: %+v", props)
	}
}
