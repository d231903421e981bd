package tenant

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCheckID(t *testing.T) {
	for _, ok := range []string{"a", "acme", "team-7", "0", strings.Repeat("a", 63)} {
		if err := CheckID(ok); err != nil {
			t.Errorf("CheckID(%q) = %v", ok, err)
		}
	}
	for _, bad := range []string{"", "A", "../x", "-a", "a-", "a_b", "a.b", "a b", "é", strings.Repeat("a", 64), "a\n"} {
		err := CheckID(bad)
		var input *InputError
		if !errors.As(err, &input) || input.Hint == "" {
			t.Errorf("CheckID(%q) = %v, want an InputError with a hint", bad, err)
		}
	}
}

func TestNamesArePureAndFit(t *testing.T) {
	if got := TapName("", "acme"); got != "tap-acme" {
		t.Errorf("TapName = %s", got)
	}
	for _, c := range []struct{ scope, id string }{{"", "twelve-chars"}, {"", strings.Repeat("a", 63)}, {"1234", "acme"}} {
		got := TapName(c.scope, c.id)
		if len(got) > MaxTapName || !strings.HasPrefix(got, "tap_") {
			t.Errorf("TapName(%q, %q) = %q", c.scope, c.id, got)
		}
	}
	if TapName("1", "acme") == TapName("2", "acme") || MAC("1", "acme").String() == MAC("2", "acme").String() {
		t.Error("two roots share a name")
	}
	if mac := MAC("", "acme"); mac[0] != 0x02 || len(mac) != 6 {
		t.Errorf("MAC = %s is not locally administered unicast", mac)
	}
	if id := MachineID("", "acme"); len(id) != 32 {
		t.Errorf("MachineID = %q", id)
	}
}

// TestNamesStay: tenants keep theirs over all versions of mvm.
func TestNamesStay(t *testing.T) {
	for _, c := range []struct{ scope, id, tap, mac, machine, short string }{
		{"", "acme", "tap-acme", "02:49:5c:3a:a0:68", "ad872c6574e96e1151fb10dba16ef627", "da1e58a33deb"},
		{"", "a-longer-id-than-fits", "tap_87bff8a45fc", "02:69:17:70:b4:4d", "be0cc372b4922a10f5db987607d10331", "f1735fd96f58"},
		{"0123abcd", "acme", "tap_3c5edf24de4", "02:b6:19:91:d9:dd", "337af0dfd33d318ce656cb4cccd834bf", "da1e58a33deb"},
	} {
		if tap, mac := TapName(c.scope, c.id), MAC(c.scope, c.id).String(); tap != c.tap || mac != c.mac {
			t.Errorf("%s of %q: %s, %s", c.id, c.scope, tap, mac)
		}
		if machine, short := MachineID(c.scope, c.id), ShortHash(c.id); machine != c.machine || short != c.short {
			t.Errorf("%s of %q: %s, %s", c.id, c.scope, machine, short)
		}
	}
}

// TestClash: these do have one name in common. They were found among 36 million
// ids.
func TestClash(t *testing.T) {
	for name, pair := range map[string][2]string{
		MAC("", "team-1111477").String(): {"team-1111477", "team-2327593"},
		TapName("", "team-1850764"):      {"team-1850764", "team-5387745"},
		ShortHash("team-17810026"):       {"team-17810026", "team-30578529"},
	} {
		id, other := pair[0], pair[1]
		if name != MAC("", other).String() && name != TapName("", other) && name != ShortHash(other) {
			t.Fatalf("%s is no name of %s", name, other)
		}
		if got, clash := Clash("", id, slices.Values([]string{id, "acme", other})); !clash || got != other {
			t.Errorf("%s and %s are both %s: %q, %v", id, other, name, got, clash)
		}
		if got, clash := Clash("", id, slices.Values([]string{id, "acme"})); clash {
			t.Errorf("%s clashes with %s", id, got)
		}
	}
}

func validSpec() Spec {
	s := Spec{TenantID: "acme"}
	s.Defaults()
	return s
}

func TestValidate(t *testing.T) {
	s := validSpec()
	if err := s.Validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	for name, breakIt := range map[string]func(*Spec){
		"cpus 0":     func(s *Spec) { s.VCPUs = 0 },
		"cpus 33":    func(s *Spec) { s.VCPUs = 33 },
		"mem 0":      func(s *Spec) { s.MemMiB = 0 },
		"mem huge":   func(s *Spec) { s.MemMiB = MaxMemMiB + 1 },
		"data -1":    func(s *Spec) { s.DataMiB = -1 },
		"profile":    func(s *Spec) { s.Profile = "../x" },
		"flake":      func(s *Spec) { s.FlakeRef = "--impure" },
		"egress":     func(s *Spec) { s.Egress = "allow:10.0.0.0/33" },
		"link-local": func(s *Spec) { s.Egress = "allow:169.254.169.254/32" },
		"restart":    func(s *Spec) { s.Restart = "on-failure:0" },

		"balloon -1":        func(s *Spec) { s.Balloon = "-1" },
		"balloon word":      func(s *Spec) { s.Balloon = "on" },
		"balloon zeros":     func(s *Spec) { s.Balloon = "00" },
		"balloon too large": func(s *Spec) { s.Balloon = "500" },
		"odd huge pages":    func(s *Spec) { s.HugePages, s.MemMiB = true, 513 },
		"cpu template":      func(s *Spec) { s.CPUTemplate = "T3" },
		"disk MiB":          func(s *Spec) { s.DiskMiBPerSec = -1 },
		"disk ops":          func(s *Spec) { s.DiskOpsPerSec = maxOpsPerSec + 1 },
		"net rx":            func(s *Spec) { s.NetRxMbit = maxNetMbit + 1 },
		"net tx":            func(s *Spec) { s.NetTxMbit = -1 },
		"net rx packets":    func(s *Spec) { s.NetRxPktsPerSec = -1 },
		"net tx packets":    func(s *Spec) { s.NetTxPktsPerSec = -1 },
	} {
		s := validSpec()
		breakIt(&s)
		var input *InputError
		if err := s.Validate(); !errors.As(err, &input) || input.Hint == "" {
			t.Errorf("%s: err = %v, want an InputError with a hint", name, err)
		}
	}
}

func TestEgress(t *testing.T) {
	e, err := ParseEgress("allow:198.51.100.0/24:tcp/443,192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Rules) != 2 || e.Rules[0].Port != 443 || e.Rules[1].Prefix.String() != "192.0.2.7/32" {
		t.Errorf("rules = %+v", e.Rules)
	}
}

func TestUnknownFieldsOfThisVersionAreRefused(t *testing.T) {
	for _, doc := range []string{
		`{"tenant_id":"a","vcpu":2}`,
		`{"schema_version":1,"tenant_id":"a","vcpu":2}`,
		`{"tenant_id":"a","tenant_id":"b"}`,
		`{"tenant_id":"a"} x`,
		`[]`, `null`, `{"schema_version":-1}`,
	} {
		var s Spec
		if err := json.Unmarshal([]byte(doc), &s); err == nil {
			t.Errorf("%s was accepted", doc)
		}
	}
}

// TestVersion0IsMigrated: a spec and a state without schema_version, or with 0,
// are read, are written in this version, and are as strict as it.
func TestVersion0IsMigrated(t *testing.T) {
	for _, version := range []string{``, `"schema_version":0,`} {
		var spec Spec
		if err := json.Unmarshal([]byte(`{`+version+`"tenant_id":"a","vcpus":3}`), &spec); err != nil {
			t.Fatal(err)
		}
		if spec.SchemaVersion != SchemaVersion || spec.TenantID != "a" || spec.VCPUs != 3 {
			t.Errorf("spec = %+v", spec)
		}
		doc := `{` + version + `"spec":{` + version + `"tenant_id":"a","vcpus":3},"uid":20001,"phase":"stopped"}`
		var state State
		if err := json.Unmarshal([]byte(doc), &state); err != nil {
			t.Fatal(err)
		}
		if state.SchemaVersion != SchemaVersion || state.Spec.SchemaVersion != SchemaVersion || state.UID != 20001 || state.Phase != Stopped {
			t.Errorf("state = %+v", state)
		}
		out, err := json.Marshal(state)
		if want := fmt.Sprintf(`"schema_version":%d`, SchemaVersion); err != nil || strings.Count(string(out), want) != 2 {
			t.Errorf("it is written as %s, %v: want %s in it and in its spec", out, err, want)
		}
		if err := json.Unmarshal([]byte(`{`+version+`"phase":"stopped","colour":"red"}`), &state); err == nil {
			t.Error("a field that no version knows was accepted")
		}
	}
	for v := range SchemaVersion {
		if migrations[v] == nil {
			t.Errorf("version %d cannot be migrated", v)
		}
	}
}

func TestFieldsOfANewerVersionAreKept(t *testing.T) {
	doc := `{"schema_version":99,"spec":{"schema_version":99,"tenant_id":"a","colour":"red"},"weight":3,"net":{"ip":"10.50.0.10","vlan":4}}`
	var s State
	if err := json.Unmarshal([]byte(doc), &s); err != nil {
		t.Fatal(err)
	}
	s.Running = true
	out, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"weight":3`, `"colour":"red"`, `"schema_version":99`, `"running":true`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s lacks %s", out, want)
		}
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"schema_version":1,"spec":{"tenant_id":"a"},"running":true}`))
	f.Add([]byte(`{"schema_version":2,"x":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s State
		if json.Unmarshal(data, &s) != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		var again State
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, out)
		}
	})
}

func FuzzEgress(f *testing.F) {
	f.Add("allow:10.0.0.0/8:tcp/443,1.2.3.4")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEgress(s)
		if err == nil && e.Mode == EgressAllow && len(e.Rules) == 0 {
			t.Errorf("%q allows nothing yet is accepted", s)
		}
	})
}

// TestUptime: a clock that was set back makes none negative.
func TestUptime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for started, want := range map[time.Duration]time.Duration{-time.Minute: time.Minute, 0: 0, 48 * time.Hour: 0} {
		s := State{LastStartedAt: now.Add(started)}
		if got := s.Uptime(now); got != want {
			t.Errorf("started at now %+v: up for %s, want %s", started, got, want)
		}
	}
}

// TestMachineIsFlat: what a spec says of its machine stands beside the rest,
// and not at all where it says nothing.
func TestMachineIsFlat(t *testing.T) {
	s := validSpec()
	plain, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Machine = Machine{Balloon: "0", HugePages: true, CPUTemplate: "T2", DiskMiBPerSec: 1, DiskOpsPerSec: 2, NetRxMbit: 3, NetTxMbit: 4, NetRxPktsPerSec: 5, NetTxPktsPerSec: 6}
	full, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Machine.Fields() {
		name := `"` + f.Name + `":`
		if strings.Contains(string(plain), name) || !strings.Contains(string(full), name) {
			t.Errorf("%s in\n%s\n%s", name, plain, full)
		}
	}
	var back Spec
	if err := json.Unmarshal(full, &back); err != nil || back.Machine != s.Machine {
		t.Errorf("%+v, %v", back, err)
	}
}
