package config

import (
	"reflect"
	"testing"
	"time"
)

func TestDefaultsRoundTrip(t *testing.T) {
	want := Default()
	want.Tier, want.TierReason = TierSoftware, `/dev/kvm is "there" but…`
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestSetTierKeepsTheRest(t *testing.T) {
	data := []byte("# mine\ntier = 'kvm'\ntier_reason = 'x'\n[network]\ngateway = 'open' # tier = 1\n")
	got := SetTier(data, TierSoftware, `no "vmx"`)
	want := "tier = \"software\"\ntier_reason = \"no \\\"vmx\\\"\"\n# mine\n[network]\ngateway = 'open' # tier = 1\n"
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	c, err := Parse(got)
	if err != nil || c.Tier != TierSoftware || c.Network.Gateway != "open" {
		t.Errorf("%+v, %v", c, err)
	}
	if again := SetTier(got, TierSoftware, `no "vmx"`); string(again) != string(got) {
		t.Errorf("a second time gives:\n%s", again)
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for _, doc := range []string{
		"teir = 'kvm'",
		"tier = 'fast'",
		"[network]\nsubnet = '10.0.0.0/8'",
		"[network]\nsubnet = '10.50.0.0/24'",
		"[network]\nsubnet = 'fd00::1/64'",
		"[network]\nbridge = 'a-very-long-bridge'",
		"[network]\nbridge = 'a b'",
		"[network]\nbridge = '..'",
		"[network]\nbridge = 'a/b'",
		"[network]\nbridge = 'a\"; drop'",
		"[network]\ndns = ['ns.example']",
		"[network]\ngateway = 'closed'",
		"[network]\nfirewall = 'pf'",
		"[build]\nengine = 'lxc'",
		"[network]\ngateway_ports = ['tcp/0']",
		"[network]\ngateway_ports = ['sctp/5']",
		"[limits]\nuid_base = 1",
		"[limits]\nstop_timeout_sec = 0",
		"[limits]\nuid_base = 1000", // the dev microVM's would be 999
		"[limits]\nmemory_overcommit = 0.0",
		"[limits]\nmemory_overcommit = nan",
		"[limits]\ncpu_overcommit = inf",
		"[build]\ncache = 'cache'",
		"[build]\nshared_cache = './cache'",
		"[secrets]\nage_identity = 'key.txt'",
		"[vmm]\nqemu = 'bin/qemu'",
		"[logs]\nconsole_max_mib = 0",
	} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("accepted: %s", doc)
		}
	}
}

// TestWhatASettingMayBe is the other side of what is refused.
func TestWhatASettingMayBe(t *testing.T) {
	for _, doc := range []string{
		"[network]\nbridge = 'br-tenants.1_x'",
		"[limits]\nmemory_overcommit = 1000000.0\ncpu_overcommit = 0.5",
		"[vmm]\nqemu = 'qemu-system-x86_64'\nfirecracker = '/opt/firecracker'",
		"[build]\ncache = '/srv/cache'",
	} {
		if _, err := Parse([]byte(doc)); err != nil {
			t.Errorf("%q is refused: %v", doc, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("tier = 'kvm'\n[network]\ngateway_ports = ['tcp/80']")
	f.Fuzz(func(t *testing.T, doc string) {
		c, err := Parse([]byte(doc))
		if err != nil {
			return
		}
		data, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data); err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, data)
		}
	})
}

func TestSetVMMKeepsTheRest(t *testing.T) {
	v := VMM{Firecracker: "/x/firecracker", Jailer: "/x/jailer"}
	for _, data := range []string{
		"", "tier = 'kvm'", "tier = 'kvm'\n[logs]\nconsole_files = 3\n",
		"[vmm] # mine\nfirecracker = '/old'\nqemu = '/q'\n[logs]\nconsole_files = 3 # jailer = 1\n",
		"[vmm]", "[vmm]\nno_jailer = true\n",
	} {
		got := SetVMM([]byte(data), v)
		c, err := Parse(got)
		if err != nil || c.VMM.Firecracker != v.Firecracker || c.VMM.Jailer != v.Jailer || c.VMM.NoJailer {
			t.Errorf("%q gives %v:\n%s", data, err, got)
		}
		if before, _ := Parse([]byte(data)); c.Logs != before.Logs || c.VMM.QEMU != before.VMM.QEMU || c.Tier != before.Tier {
			t.Errorf("%q loses a setting:\n%s", data, got)
		}
		if again := SetVMM(got, v); string(again) != string(got) {
			t.Errorf("%q a second time gives:\n%s", data, again)
		}
	}
}

// TestStopTimeout: emulated guests have longer, unless the settings say how long.
func TestStopTimeout(t *testing.T) {
	for doc, want := range map[string]time.Duration{
		"":                                20 * time.Second,
		"tier = 'kvm'":                    20 * time.Second,
		"tier = 'software'":               45 * time.Second,
		"[limits]\nstop_timeout_sec = 20": 20 * time.Second,
		"tier = 'software'\n[limits]\nstop_timeout_sec = 20": 20 * time.Second,
	} {
		c, err := Parse([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		data, err := c.Encode() // as the dev microVM has it
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(data)
		if err != nil || c.StopTimeout() != want || again.StopTimeout() != want {
			t.Errorf("%q: %s, and encoded %s, want %s; %v", doc, c.StopTimeout(), again.StopTimeout(), want, err)
		}
	}
}
