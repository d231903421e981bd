package fleet

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
		"":                                                          "version 0",
		"version: 2":                                                "version 2",
		"version: 1\ntenant: {}":                                    "field tenant not found",
		"version: 1\n---\nx: 1":                                     "more than one document",
		"version: 1\ntenants: [a]":                                  "cannot unmarshal",
		"version: 1\ntenants: {a: {vcpu: 2}}":                       "field vcpu not found",
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
