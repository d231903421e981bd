package fcconfig

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// hostPaths are the paths that a run gives; nothing else may look like one.
var hostPaths = map[string]bool{"/kernel": true, "/initrd": true, "/rootfs.ext4": true, "/data.ext4": true, "/secrets.ext4": true}

// FuzzParse: whatever a tenant writes, what Firecracker gets has mvm's drives,
// paths, interface, size and words, once each, and nothing that reaches the
// host.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/base/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for doc := range refused {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		base, err := Parse(data)
		if err != nil {
			return
		}
		for _, rt := range []Runtime{testRuntime(), withoutInitrd()} {
			cfg, err := Final(base, rt)
			if err != nil {
				continue
			}
			checkInvariants(t, cfg, rt)
			if len(cfg.Unmodelled) > 0 {
				continue
			}
			if again, err := Decode(cfg.JSON()); err != nil || string(again.JSON()) != string(cfg.JSON()) {
				t.Fatalf("does not survive being written: %v\n%s", err, cfg.JSON())
			}
		}
	})
}

func withoutInitrd() Runtime {
	rt := testRuntime()
	rt.Initrd = ""
	return rt
}

var ownedWord = regexp.MustCompile(`(?:^|[ "])"*(?:rd[.])?(ip|nfsaddrs|hostname|systemd[.]hostname|systemd[.]machine[-_]id|mvm[.][^= ]*)"*=`)

// endOfWords is what the kernel reads nothing after.
var endOfWords = regexp.MustCompile(`(?:^| )["']*-["']*-["']*(?: |$)`)

func checkInvariants(t *testing.T, cfg Config, rt Runtime) {
	t.Helper()
	if len(cfg.Drives) != 3 || len(cfg.NetworkInterfaces) != 1 {
		t.Fatalf("devices were added: %s", cfg.JSON())
	}
	for i, want := range []Drive{
		{DriveID: DriveRootfs, PathOnHost: rt.Rootfs, IsReadOnly: true, IsRootDevice: rt.Initrd == ""},
		{DriveID: DriveData, PathOnHost: rt.Data, CacheType: "Writeback"},
		{DriveID: DriveSecrets, PathOnHost: rt.Secrets, IsReadOnly: true},
	} {
		got := cfg.Drives[i]
		got.RateLimiter, got.IOEngine = nil, ""
		if want.CacheType == "" {
			got.CacheType = ""
		}
		if got != want {
			t.Fatalf("drive %d = %+v, want %+v", i, got, want)
		}
	}
	nic := cfg.NetworkInterfaces[0]
	if nic.HostDevName != rt.TAP || nic.GuestMAC != rt.MAC || nic.IfaceID != Interface {
		t.Fatalf("interface = %+v", nic)
	}
	m := cfg.Machine
	if m.VCPUCount != rt.VCPUs || m.MemSizeMiB != rt.MemMiB || m.SMT || m.TrackDirtyPages || m.HugePages == "2M" {
		t.Fatalf("machine = %+v", m)
	}
	if cfg.Vsock != nil || cfg.Pmem != nil || cfg.MemoryHotplug != nil || cfg.MMDS != nil || cfg.Logger != nil || cfg.Metrics != nil {
		t.Fatalf("a section that reaches the host: %s", cfg.JSON())
	}
	before := cfg.BootSource.BootArgs
	if end := endOfWords.FindStringIndex(before); end != nil {
		before = before[:end[0]]
	}
	if words := ownedWord.FindAllString(before, -1); len(words) != 3 {
		t.Fatalf("mvm's words appear %d times: %s", len(words), cfg.BootSource.BootArgs)
	}
	checkPaths(t, "", cfg.doc)
}

// checkPaths looks for strings that could name something on the host.
func checkPaths(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if at == "boot-source" && key == "boot_args" {
				continue
			}
			checkPaths(t, join(at, key), value)
		}
	case []any:
		for _, value := range v {
			checkPaths(t, at, value)
		}
	case string:
		if strings.ContainsAny(v, "/.") && !hostPaths[v] {
			t.Fatalf("%s holds %q", at, v)
		}
	}
}

func FuzzSplitBootArgs(f *testing.F) {
	f.Add(`a b="c d" -- e`)
	f.Add(`"ip=1 2" mvm.x`)
	f.Add(`a "--" b`)
	f.Fuzz(func(t *testing.T, args string) {
		if badBootArgs(args) != "" {
			return
		}
		out := AddBootWords(args, "ip=1")
		if got := len(splitBootArgs(out)); got != len(splitBootArgs(args))+1 {
			t.Errorf("%q becomes %q", args, out)
		}
	})
}
