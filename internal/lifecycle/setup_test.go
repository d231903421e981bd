package lifecycle

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/tenant"
)

func TestSetupNeedsAVMM(t *testing.T) {
	h := newHost(t)
	t.Setenv("PATH", t.TempDir())
	_, err := h.Setup(t.Context(), SetupOptions{Tier: "software"})
	var advised *Error
	if !errors.As(err, &advised) || !errors.Is(err, ErrHost) || !strings.Contains(advised.Hint, "qemu-system-x86") {
		t.Fatalf("err = %v, want one of the host's with a hint", err)
	}
	if _, err := os.Stat(h.Store.ConfigFile()); !os.IsNotExist(err) {
		t.Errorf("a tier was decided all the same: %v", err)
	}
	var input *tenant.InputError
	if _, err := h.Setup(t.Context(), SetupOptions{Tier: "fast"}); !errors.As(err, &input) {
		t.Errorf("err = %v, want an InputError", err)
	}
}

func TestTheTierHasAReason(t *testing.T) {
	const none = "no /dev/kvm"
	for _, c := range []struct {
		wanted       string
		usable       bool
		tier, reason string
	}{
		{"", true, "kvm", "KVM is usable"},
		{"kvm", true, "kvm", "KVM is usable"},
		{"software", true, "software", "asked for with --tier software"},
		{"software", false, "software", "asked for with --tier software; " + none},
	} {
		if tier, reason, err := decideTier(c.wanted, c.usable, none); tier != c.tier || reason != c.reason || err != nil {
			t.Errorf("%q where KVM is usable is %v: %q, %q, %v", c.wanted, c.usable, tier, reason, err)
		}
	}
	for _, wanted := range []string{"", "kvm"} { // emulation is no silent fallback
		if tier, _, err := decideTier(wanted, false, none); tier != "" || !errors.Is(err, ErrHost) || !strings.Contains(err.Error(), none) {
			t.Errorf("%q without KVM: %q, %v", wanted, tier, err)
		}
	}
}

func TestRunNeedsSetupAndABuild(t *testing.T) {
	h := newHost(t)
	var advised *Error
	if _, err := h.Run(t.Context(), "acme", RunOptions{}); !errors.As(err, &advised) || advised.Hint != "mvm tenant build acme" {
		t.Errorf("err = %v, want a hint to build", err)
	}
	if err := h.Store.UpdateState("acme", func(s *tenant.State) error { s.Artifacts.Image = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(t.Context(), "acme", RunOptions{}); !errors.As(err, &advised) || advised.Hint != "mvm setup" {
		t.Errorf("err = %v, want a hint to set up", err)
	}
}

// TestKilledAdoptConverges: create --adopt-volumes, killed after any of its
// steps and given again, ends with the adopted data; a create without it
// starts fresh and loses nothing.
func TestKilledAdoptConverges(t *testing.T) {
	h := newHost(t)
	tn := h.Store.Tenant("beta")
	retain := func() string {
		t.Helper()
		if err := makeFolders(tn); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(tn.DataVolume(), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir, err := h.retain("beta")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	holds := func(path, want string) {
		t.Helper()
		if data, err := os.ReadFile(path); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v", path, data, err)
		}
	}
	settle := func(adopt bool) (string, []string) {
		t.Helper()
		if err := makeFolders(tn); err != nil {
			t.Fatal(err)
		}
		names, err := h.Retained("beta")
		if err != nil {
			t.Fatal(err)
		}
		name, rest, err := h.settleVolumes(tn, names, adopt, os.Getuid())
		if err != nil {
			t.Fatal(err)
		}
		return name, rest
	}

	retain()
	for range 2 { // the second is the create after the kill
		if name, _ := settle(true); name == "" {
			t.Error("nothing was adopted")
		}
		holds(tn.DataVolume(), "precious")
	}
	name, rest := settle(false)
	if name != "" || len(rest) != 1 {
		t.Fatalf("adopted %q, retained %v: want a fresh start that names what is kept", name, rest)
	}
	holds(h.Store.RetainedDir()+"/"+rest[0]+"/data.ext4", "precious")
	if _, err := os.Stat(tn.DataVolume()); !os.IsNotExist(err) {
		t.Errorf("the fresh tenant has data: %v", err)
	}
}

// writeRelease makes an archive laid out as a release, with scripts for programs.
func writeRelease(t *testing.T, version string) (path, sum string) {
	t.Helper()
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	dir := t.TempDir()
	in := filepath.Join(dir, "release-v"+version+"-"+machine)
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, said := range map[string]string{"firecracker": "Firecracker", "jailer": "Jailer"} {
		text := fmt.Sprintf("#!/bin/sh\necho '%s v%s'\n", said, version)
		if err := os.WriteFile(filepath.Join(in, name+"-v"+version+"-"+machine), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(dir, "release.tgz")
	if out, err := exec.CommandContext(t.Context(), "tar", "-czf", path, "-C", dir, filepath.Base(in)).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, fmt.Sprintf("%x", sha256.Sum256(data))
}

// TestNoJailIsSaidAndKept: without its jailer Firecracker is refused, until
// setup was told --no-jail; that is kept, recorded, and can be taken back.
func TestNoJailIsSaidAndKept(t *testing.T) {
	h := newHost(t)
	bin := t.TempDir()
	for name, says := range map[string]string{"firecracker": "Firecracker v1.16.1", "qemu-system-x86_64": "QEMU emulator version 10.0.0", "qemu-system-aarch64": "QEMU emulator version 10.0.0"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	c := config.Config{Tier: config.TierKVM}
	var advised *Error
	if _, err := h.vmmVersion(t.Context(), c); !errors.As(err, &advised) || !strings.Contains(err.Error(), "jailer of Firecracker is not installed") || !strings.Contains(advised.Hint, "mvm setup --firecracker") {
		t.Errorf("without a jailer: %v, want it refused with a hint", err)
	}
	yes, no := true, false
	for _, step := range []struct {
		said *bool
		want bool
	}{{nil, false}, {&yes, true}, {nil, true}, {&no, false}} {
		if _, err := h.Setup(t.Context(), SetupOptions{Tier: config.TierSoftware, NoJail: step.said}); err != nil {
			t.Fatal(err)
		}
		kept, err := config.Load(h.Store.ConfigFile())
		if err != nil || kept.VMM.NoJailer != step.want {
			t.Fatalf("config.toml has no_jailer = %v, %v; want %v", kept.VMM.NoJailer, err, step.want)
		}
		entries, err := h.Audit("")
		if err != nil || len(entries) == 0 {
			t.Fatal(entries, err)
		}
		if last := entries[len(entries)-1]; last.Act != "setup" || last.Detail["no_jailer"] != step.want {
			t.Errorf("recorded %+v, want no_jailer %v", last, step.want)
		}
		kept.Tier = config.TierKVM
		if version, err := h.vmmVersion(t.Context(), kept); (err == nil) != step.want {
			t.Errorf("no_jailer %v: %q, %v", step.want, version, err)
		}
	}
}

// TestSetupLeavesAFileThatCanBeRead: settings that are written in a way that
// setup cannot add to stay as they are, and it says so.
func TestSetupLeavesAFileThatCanBeRead(t *testing.T) {
	h := newHost(t)
	path, sum := writeRelease(t, "1.16.1")
	for _, text := range []string{"vmm.qemu = '/q'\n", "vmm = {qemu = '/q'}\n"} {
		if err := os.WriteFile(h.Store.ConfigFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var advised *Error
		if _, err := h.Setup(t.Context(), SetupOptions{Tier: "software", Firecracker: path, SHA256: sum}); !errors.As(err, &advised) {
			t.Errorf("%q: err = %v, want one with advice", text, err)
		}
		if got, err := os.ReadFile(h.Store.ConfigFile()); err != nil || string(got) != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}

func TestSetupInstallsFirecracker(t *testing.T) {
	h := newHost(t)
	path, sum := writeRelease(t, "1.16.1")
	// It says that it is 1.16.1, but it is not the pinned one.
	for _, o := range []SetupOptions{
		{Tier: "software", Firecracker: path},
		{Tier: "software", Firecracker: path, SHA256: strings.Repeat("0", 64)},
		{Tier: "software", Firecracker: "0.1.2"},
		{Tier: "software", Firecracker: t.TempDir()},
	} {
		var advised *Error
		if _, err := h.Setup(t.Context(), o); !errors.As(err, &advised) || advised.Hint != installHint {
			t.Errorf("%+v: err = %v, want it refused with a hint", o, err)
		}
		if _, err := os.Stat(h.Store.ConfigFile()); !os.IsNotExist(err) {
			t.Errorf("%+v left settings: %v", o, err)
		}
	}
	o := SetupOptions{Tier: "software", Firecracker: path, SHA256: sum}
	for i := range 2 {
		done, err := h.Setup(t.Context(), o)
		if err != nil || done.Already != (i == 1) {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	c, err := config.Load(h.Store.ConfigFile())
	if err != nil || c.VMM.Firecracker != filepath.Join(h.Store.VMMDir(), "1.16.1", "firecracker") {
		t.Errorf("%+v, %v", c.VMM, err)
	}
	c.Tier = config.TierKVM
	if version, err := h.vmmVersion(t.Context(), c); err != nil || version != "firecracker 1.16.1" {
		t.Errorf("%q, %v", version, err)
	}
	entries, err := os.ReadDir(h.Store.VMMDir())
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
