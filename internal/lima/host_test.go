package lima

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMacs(t *testing.T) {
	for _, c := range []struct {
		file, macos string
		arch        string
		nests       bool
		why         string
	}{
		{"m1", "15.2", "arm64", false, "Apple M1 cannot"},
		{"m2pro", "26.0", "arm64", false, "M3 or newer"},
		{"m3", "14.7.1", "arm64", false, "macOS 15 or newer"},
		{"m3", "15.0", "arm64", true, "Apple M3 with macOS 15.0 offers"},
		{"m4max", "26.1", "arm64", true, "Apple M4 Max"},
		{"intel", "15.2", "amd64", false, "Intel Macs cannot"},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", c.file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseMac(data, c.macos+"\n")
		if err != nil {
			t.Fatal(err)
		}
		if ok, why := h.Nests(); h.Arch != c.arch || ok != c.nests || !strings.Contains(why, c.why) {
			t.Errorf("%s, macOS %s: %s, %v: %s", c.file, c.macos, h.Arch, ok, why)
		}
		m, err := h.Choose("")
		var choice *ChoiceError
		switch {
		case c.nests && (err != nil || m != Native || m.Tier() != "kvm"):
			t.Errorf("%s: chose %s, %v", c.file, m, err)
		case !c.nests && !errors.As(err, &choice):
			t.Errorf("%s: chose %s without being asked", c.file, m)
		case !c.nests:
			for _, want := range []string{"--machine software", "--machine emulated", "remote Linux host", "no isolation boundary"} {
				if !strings.Contains(choice.Advice(), want) {
					t.Errorf("the choices lack %q", want)
				}
			}
		}
		if m, err := h.Choose(Software); err != nil || m.Tier() != "software" {
			t.Errorf("%s: asked for software: %s, %v", c.file, m, err)
		}
		if m, err := h.Choose(Emulated); err != nil || m.Tier() != "kvm" {
			t.Errorf("%s: asked for emulated: %s, %v", c.file, m, err)
		}
	}
}

func TestUnknownMacsPromiseNothing(t *testing.T) {
	for _, text := range []string{"", "{}", `{"SPHardwareDataType": []}`} {
		if h, err := ParseMac([]byte(text), "15.0"); err == nil {
			t.Errorf("%q became %+v", text, h)
		}
	}
	h, err := ParseMac([]byte(`{"SPHardwareDataType": [{"chip_type": "Apple A18 Pro"}]}`), "26.0")
	if ok, _ := h.Nests(); err != nil || ok {
		t.Errorf("a chip that nobody has tried: %v, %v", ok, err)
	}
}

func TestLinux(t *testing.T) {
	for _, c := range []struct {
		machine string
		kvm     bool
		nested  string
		arch    string
		nests   bool
	}{
		{"x86_64", true, "Y\n", "amd64", true},
		{"x86_64", true, "1\n", "amd64", true},
		{"x86_64", true, "N\n", "amd64", false},
		{"x86_64", false, "", "amd64", false},
		{"x86_64", false, "Y", "amd64", false},
		{"aarch64", true, "", "arm64", false},
	} {
		h, err := ParseLinux(c.machine, c.kvm, c.nested)
		if ok, why := h.Nests(); err != nil || h.Arch != c.arch || ok != c.nests || why == "" {
			t.Errorf("%+v: %+v, %v, %v", c, h, ok, err)
		}
	}
	// Lima looks only whether the device is there.
	denied := Host{OS: "linux", Arch: "amd64", Denied: true}
	if ok, why := denied.Nests(); ok || !strings.Contains(why, "may not open /dev/kvm") {
		t.Errorf("%v, %s", ok, why)
	}
	for _, h := range []Host{denied, {OS: "linux", Arch: "amd64", KVM: true}} {
		if m, err := h.Choose(Emulated); err == nil {
			t.Errorf("%+v: chose %s", h, m)
		}
	}
	if _, err := ParseLinux("riscv64", true, "Y"); err == nil {
		t.Error("riscv64 is taken")
	}
}
