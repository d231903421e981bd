package fcconfig

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auser/mvm/internal/goldenfile"
)

func testRuntime() Runtime {
	return Runtime{
		Kernel: "/kernel", Initrd: "/initrd", Rootfs: "/rootfs.ext4", Data: "/data.ext4", Secrets: "/secrets.ext4",
		Boot: BootWords{
			IP: netip.MustParseAddr("10.50.0.10"), Gateway: netip.MustParseAddr("10.50.0.1"), Bits: 24,
			DNS:      []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("9.9.9.9")},
			Hostname: "acme", MachineID: "0123456789abcdef0123456789abcdef",
		},
		VCPUs: 2, MemMiB: 512, TAP: "tap-acme", MAC: "02:12:34:56:78:9a",
	}
}

// golden are the final configurations that testdata/final holds.
var golden = []struct {
	name, base string
	change     func(*Runtime)
}{
	{"minimal", "empty", func(rt *Runtime) {
		rt.Initrd, rt.Boot.DNS, rt.VCPUs, rt.MemMiB = "", nil, 1, 64
	}},
	{"skeleton", "skeleton", nil},
	{"rich", "rich", func(rt *Runtime) {
		rt.DiskLimit = &RateLimiter{Bandwidth: &TokenBucket{Size: 10 << 20, RefillTime: 1000}}
		rt.RxLimit = &RateLimiter{Bandwidth: &TokenBucket{Size: 1 << 20, RefillTime: 100, OneTimeBurst: 1 << 22}}
		rt.TxLimit = &RateLimiter{Bandwidth: &TokenBucket{Size: 1 << 20, RefillTime: 100}}
		rt.Boot.Extra = map[string]string{"b": "2", "a": "1"}
		rt.Boot.Bits = 32
	}},
	{"template", "template", nil},
	{"hugepages", "empty", func(rt *Runtime) {
		rt.HugePages, rt.VCPUs, rt.MemMiB, rt.CPUTemplate = true, MaxVCPUs, 1<<20, "None"
		rt.Balloon = &Balloon{AmountMiB: 128, DeflateOnOOM: true, StatsPollingIntervalS: 5}
	}},
	{"volumes", "skeleton", func(rt *Runtime) {
		rt.Volumes = []Volume{{"/vdd.ext4", "/work", false}, {"/vde.ext4", "/srv/web", true}}
		rt.DiskLimit = &RateLimiter{Ops: &TokenBucket{Size: 500, RefillTime: 1000}}
	}},
	{"newer", "newer", nil},
}

func finalFor(t *testing.T, base string, change func(*Runtime)) Config {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/base", base+".json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(data)
	if err != nil {
		t.Fatalf("%s: %v", base, err)
	}
	rt := testRuntime()
	if change != nil {
		change(&rt)
	}
	cfg, err := Final(b, rt)
	if err != nil {
		t.Fatalf("%s: %v", base, err)
	}
	return cfg
}

// file is where a golden configuration lies. One for a newer Firecracker than
// the model's is kept apart: no checker of the model's version takes it.
func file(name string) string {
	if name == "newer" {
		return "testdata/newer.json"
	}
	return filepath.Join("testdata/final", name+".json")
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			got := finalFor(t, g.base, g.change).JSON()
			goldenfile.Check(t, file(g.name), string(got))
		})
	}
}

// TestDecode: what Final wrote is read back as the same.
func TestDecode(t *testing.T) {
	for _, g := range golden {
		cfg := finalFor(t, g.base, g.change)
		again, err := Decode(cfg.JSON())
		if g.name == "newer" {
			if err == nil {
				t.Error("Decode takes what the model does not know")
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
		} else if !bytes.Equal(again.JSON(), cfg.JSON()) {
			t.Errorf("%s changes when it is read", g.name)
		}
	}
}

func TestARunsValuesWin(t *testing.T) {
	cfg := finalFor(t, "rich", golden[2].change)
	if m := cfg.Machine; m.VCPUCount != 2 || m.MemSizeMiB != 512 {
		t.Errorf("the tenant chose its own size: %+v", m)
	}
	data := cfg.Drives[1]
	if b := data.RateLimiter.Bandwidth; b.Size != 10<<20 || b.OneTimeBurst != 0 {
		t.Errorf("the tenant loosened its limit: %+v", b)
	}
	if data.RateLimiter.Ops == nil {
		t.Error("a limit of the tenant's own is lost")
	}
	for i, want := range []string{DriveRootfs, DriveData, DriveSecrets} {
		if d := cfg.Drives[i]; d.DriveID != want || d.IsReadOnly != (want != DriveData) {
			t.Errorf("drive %d = %+v", i, d)
		}
	}
	if args := cfg.BootSource.BootArgs; strings.Index(args, " ip=") > strings.Index(args, " -- ") {
		t.Errorf("mvm's words stand behind --: %s", args)
	}
}

func TestNewerFirecracker(t *testing.T) {
	cfg := finalFor(t, "newer", nil)
	if want := (Version{1, 18, 0}); cfg.MinVersion != want {
		t.Errorf("MinVersion = %v", cfg.MinVersion)
	}
	want := []string{"drives[1].queues", "drives[1].reclaim", "machine-config.turbo"}
	if diff := cmp.Diff(want, cfg.Unmodelled); diff != "" {
		t.Errorf("Unmodelled: %s", diff)
	}
	if strings.Contains(string(cfg.JSON()), versionField) {
		t.Errorf("%s reaches Firecracker", versionField)
	}
}

// TestDeclaredVersion: what a base is written for is what it gets or newer, also
// where the model knows that version, and its fields are checked all the same.
func TestDeclaredVersion(t *testing.T) {
	for declared, want := range map[string]Version{"1.16": {1, 16, 0}, "1.17.1": {1, 17, 1}, "1.18.2": {1, 18, 2}} {
		base, err := Parse([]byte(`{"firecracker-version":"` + declared + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := Final(base, testRuntime())
		if err != nil || cfg.MinVersion != want || len(cfg.Unmodelled) > 0 {
			t.Errorf("%s: MinVersion %v, unmodelled %v, %v", declared, cfg.MinVersion, cfg.Unmodelled, err)
		}
	}
}

// TestABaseWithFieldsOfARelease: a base need not declare what its fields tell.
func TestABaseWithFieldsOfARelease(t *testing.T) {
	base, err := Parse([]byte(`{"drives":[{"drive_id":"rootfs","blk_size":4096},{"drive_id":"data","discard":true,"topology":{"min_io_size":8}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Final(base, testRuntime())
	if err != nil || cfg.MinVersion != (Version{1, 17, 0}) || cfg.Drives[0].BlkSize != 4096 || !cfg.Drives[1].Discard || cfg.Drives[1].Topology.MinIOSize != 8 {
		t.Errorf("%+v, %v", cfg, err)
	}
}

// TestFieldsOfARelease: a configuration is for the first Firecracker that has
// all of its fields.
func TestFieldsOfARelease(t *testing.T) {
	document := func(more string) []byte {
		if !strings.Contains(more, `"drives"`) {
			more += `,"drives":[]`
		}
		return []byte(`{"boot-source":{"kernel_image_path":"/kernel"},` + more + `}`)
	}
	machine := func(pages, mib string) string {
		return `"machine-config":{"vcpu_count":1,"mem_size_mib":` + mib + `,"huge_pages":"` + pages + `"}`
	}
	disk := func(more string) string {
		return `"drives":[{"drive_id":"data","is_root_device":false,"path_on_host":"/data",` + more + `}]`
	}
	metrics := func(more string) string { return `"metrics":{"metrics_path":"/metrics"` + more + `}` }
	for more, want := range map[string]Version{
		machine("2M", "64"):          {},
		machine("None", "63"):        {},
		machine("Transparent", "64"): {1, 17, 0},
		metrics(""):                  {},
		metrics(`,"emit_id":true`):   {1, 17, 0},
		metrics(`,"properties":{"rack":"7 b","zone":"é"}`): {1, 17, 0},
		disk(`"io_engine":"Sync"`):                         {},
		disk(`"discard":true`):                             {1, 17, 0},
		disk(`"discard":false`):                            {1, 17, 0},
		disk(`"blk_size":4096`):                            {1, 17, 0},
		disk(`"topology":{"physical_block_exp":3,"alignment_offset":0,"min_io_size":8,"opt_io_size":128}`): {1, 17, 0},
	} {
		if cfg, err := Decode(document(more)); err != nil || cfg.MinVersion != want {
			t.Errorf("%s: MinVersion %v, %v; want %v", more, cfg.MinVersion, err, want)
		}
	}
	for more, path := range map[string]string{
		machine("Transparent", "63"):               "machine-config.mem_size_mib",
		machine("transparent", "64"):               "machine-config.huge_pages",
		metrics(`,"emit_id":"yes"`):                "metrics.emit_id",
		metrics(`,"properties":["x"]`):             "metrics.properties",
		metrics(`,"properties":{"rack":7}`):        "metrics.properties.rack",
		disk(`"discard":"unmap"`):                  "drives[0].discard",
		disk(`"discard":true,"is_read_only":true`): "drives[0].discard",
		disk(`"discard":true,"io_engine":"Async"`): "drives[0].discard",
		disk(`"blk_size":513`):                     "drives[0].blk_size",
		disk(`"blk_size":8192`):                    "drives[0].blk_size",
		disk(`"topology":{"max_io_size":8}`):       "drives[0].topology.max_io_size",
		disk(`"topology":{"min_io_size":65536}`):   "drives[0].topology.min_io_size",
		`"drives":[{"drive_id":"data","is_root_device":false,"socket":"/s","blk_size":512}]`: "drives[0]",
	} {
		if _, err := Decode(document(more)); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s is refused with %v, want the path %s", more, err, path)
		}
	}
}

// refused are base configurations that mvm does not take, and the path that
// it names.
var refused = map[string]string{
	`{"boot-source":{"kernel_image_path":"/etc/shadow"}}`:     "boot-source.kernel_image_path",
	`{"boot-source":{"initrd_path":"/initrd"}}`:               "boot-source.initrd_path",
	`{"boot-source":{"boot_args":1}}`:                         "boot-source.boot_args",
	`{"boot-source":{"boot_args":"ip=10.50.0.99::::::off"}}`:  "boot-source.boot_args",
	`{"boot-source":{"boot_args":"quiet \"ip=10.50.0.99\""}}`: "boot-source.boot_args",
	`{"boot-source":{"boot_args":"nfsaddrs=10.50.0.99"}}`:     "boot-source.boot_args",
	`{"boot-source":{"boot_args":"a systemd.hostname=b"}}`:    "boot-source.boot_args",
	`{"boot-source":{"boot_args":"systemd.machine-id=b"}}`:    "boot-source.boot_args",
	`{"boot-source":{"boot_args":"rd.systemd.machine_id=b"}}`: "boot-source.boot_args",
	`{"boot-source":{"boot_args":"mvm.token=1"}}`:             "boot-source.boot_args",
	`{"boot-source":{"boot_args":"mvm.token"}}`:               "boot-source.boot_args",
	`{"boot-source":{"boot_args":"init=\"/bin/sh"}}`:          "boot-source.boot_args",
	`{"boot-source":{"boot_args":"'systemd.hostname=b'"}}`:    "boot-source.boot_args",
	`{"boot-source":{"boot_args":"a='b"}}`:                    "boot-source.boot_args",
	`{"boot-source":{"boot_args":"a\nip=1"}}`:                 "boot-source.boot_args",
	`{"boot-source":{"boot_args":"a\tip=1"}}`:                 "boot-source.boot_args",
	`{"boot-source":{"boot_args":"ü"}}`:                       "boot-source.boot_args",

	`{"drives":[{"drive_id":"rootfs","path_on_host":"/dev/sda"}]}`:                         "drives[0].path_on_host",
	`{"drives":[{"drive_id":"data","socket":"/run/docker.sock"}]}`:                         "drives[0].socket",
	`{"drives":[{"drive_id":"data"},{"drive_id":"extra"}]}`:                                "drives[1].drive_id",
	`{"drives":[{"drive_id":"data"},{"drive_id":"data"}]}`:                                 "drives[1].drive_id",
	`{"drives":[{"drive_id":"rootfs","is_read_only":false}]}`:                              "drives[0].is_read_only",
	`{"drives":[{"drive_id":"secrets","is_read_only":false}]}`:                             "drives[0].is_read_only",
	`{"drives":[{"drive_id":"data","is_read_only":true}]}`:                                 "drives[0].is_read_only",
	`{"drives":[{"drive_id":"data","is_root_device":true}]}`:                               "drives[0].is_root_device",
	`{"drives":[{"drive_id":"rootfs","partuuid":"x ip=1"}]}`:                               "drives[0].partuuid",
	`{"drives":[{"drive_id":"rootfs","discard":true}]}`:                                    "drives[0].discard",
	`{"drives":[{"drive_id":"data","discard":1}]}`:                                         "drives[0].discard",
	`{"drives":[{"drive_id":"data","blk_size":64}]}`:                                       "drives[0].blk_size",
	`{"drives":[{"drive_id":"data","topology":8}]}`:                                        "drives[0].topology",
	`{"drives":[{"drive_id":"data","io_engine":"Async"}]}`:                                 "drives[0].io_engine",
	`{"drives":[{"drive_id":"data","rate_limiter":{"bytes":{}}}]}`:                         "drives[0].rate_limiter.bytes",
	`{"drives":[{"drive_id":"data","rate_limiter":{"ops":{"size":-1,"refill_time":1}}}]}`:  "drives[0].rate_limiter.ops.size",
	`{"drives":[{"drive_id":"data","rate_limiter":{"ops":{"size":1e3,"refill_time":1}}}]}`: "drives[0].rate_limiter.ops.size",
	`{"drives":[{"drive_id":"data","rate_limiter":{"ops":{"size":1}}}]}`:                   "drives[0].rate_limiter.ops.refill_time",
	`{"drives":{"drive_id":"data"}}`:                                                       "drives",
	`{"drives":["data"]}`:                                                                  "drives[0]",
	`{"drives":[null]}`:                                                                    "drives[0]",

	`{"machine-config":{"vcpu_count":33}}`:                              "machine-config.vcpu_count",
	`{"machine-config":{"vcpu_count":"1"}}`:                             "machine-config.vcpu_count",
	`{"machine-config":{"smt":true}}`:                                   "machine-config.smt",
	`{"machine-config":{"huge_pages":"2M"}}`:                            "machine-config.huge_pages",
	`{"machine-config":{"huge_pages":"Transparent"}}`:                   "machine-config.huge_pages",
	`{"machine-config":{"track_dirty_pages":true}}`:                     "machine-config.track_dirty_pages",
	`{"machine-config":{"cpu_template":"X1"}}`:                          "machine-config.cpu_template",
	`{"machine-config":{"turbo":true}}`:                                 "machine-config.turbo",
	`{"cpu-config":"/etc/passwd"}`:                                      "cpu-config",
	`{"cpu-config":{"msr_modifiers":[{"addr":"../x","bitmap":"0b1"}]}}`: "cpu-config.msr_modifiers[0].addr",

	`{"network-interfaces":[{"iface_id":"eth0","host_dev_name":"br0"}]}`:           "network-interfaces[0].host_dev_name",
	`{"network-interfaces":[{"iface_id":"eth0","guest_mac":"02:00:00:00:00:01"}]}`: "network-interfaces[0].guest_mac",
	`{"network-interfaces":[{"iface_id":"eth1"}]}`:                                 "network-interfaces[0].iface_id",
	`{"network-interfaces":[{"iface_id":"eth0","mtu":1}]}`:                         "network-interfaces[0].mtu",

	`{"vsock":{"guest_cid":3,"uds_path":"/run/x"}}`: "vsock",
	`{"pmem":[]}`: "pmem",
	`{"memory-hotplug":{"total_size_mib":1048576}}`:                             "memory-hotplug",
	`{"mmds-config":{"network_interfaces":["eth0"]}}`:                           "mmds-config",
	`{"logger":{"log_path":"/var/log/x"}}`:                                      "logger",
	`{"metrics":{"metrics_path":"/x"}}`:                                         "metrics",
	`{"serial":{"serial_out_path":"/x"}}`:                                       "serial",
	`{"Drives":[]}`:                                                             "Drives",
	`{"balloon":{"amount_mib":1}}`:                                              "balloon.deflate_on_oom",
	`{"balloon":{"amount_mib":1,"deflate_on_oom":false,"must_tell_host":true}}`: "balloon.must_tell_host",
	`{"entropy":{"source":"/dev/random"}}`:                                      "entropy.source",

	`{"firecracker-version":"latest"}`:                                                   "firecracker-version",
	`{"firecracker-version":17}`:                                                         "firecracker-version",
	`{"firecracker-version":"1.17.9","machine-config":{"turbo":true}}`:                   "machine-config.turbo",
	`{"firecracker-version":"9.0","gpu":{}}`:                                             "gpu",
	`{"firecracker-version":"9.0","machine-config":{"firmware":"/etc/shadow"}}`:          "machine-config.firmware",
	`{"firecracker-version":"9.0","machine-config":{"firmware":["x"]}}`:                  "machine-config.firmware",
	`{"firecracker-version":"9.0","drives":[{"drive_id":"data","Path_on_host":"x"}]}`:    "drives[0].Path_on_host",
	`{"firecracker-version":"9.0","drives":[{"drive_id":"data","x":{"y":{"z":"a b"}}}]}`: "drives[0].x.y.z",

	`{"entropy":{},"entropy":{}}`:                        "entropy",
	`{"machine-config":{"vcpu_count":1,"vcpu_count":2}}`: "machine-config.vcpu_count",
}

func TestRefusedBases(t *testing.T) {
	for doc, path := range refused {
		_, err := Parse([]byte(doc))
		if err == nil {
			t.Errorf("%s is accepted", doc)
		} else if !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s\n\tis refused with: %v\n\twant the path %s", doc, err, path)
		}
	}
	for _, doc := range []string{``, `null`, `[]`, `"x"`, `{} {}`, `{"a":1`, "{\"a\":\"\xff\"}", `{"a":` + strings.Repeat(`{"a":`, 20) + `1` + strings.Repeat(`}`, 21), strings.Repeat(" ", maxDocument+1)} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%.40q is accepted", doc)
		}
	}
}

// TestRefusedInTheEnd: what only shows when base and run come together.
func TestRefusedInTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		base   string
		change func(*Runtime)
		want   string
	}{
		"root device beside an initrd": {`{"drives":[{"drive_id":"rootfs","is_root_device":true}]}`, nil, "drives[0].is_root_device"},
		"no root device at all":        {`{"drives":[{"drive_id":"rootfs","is_root_device":false}]}`, func(rt *Runtime) { rt.Initrd = "" }, "drives[0].is_root_device"},
		"balloon beyond memory":        {`{"balloon":{"amount_mib":513,"deflate_on_oom":true}}`, nil, "balloon.amount_mib"},
		"two CPU templates":            {`{"cpu-config":{},"machine-config":{"cpu_template":"T2"}}`, nil, "cpu-config"},
		"long command line":            {`{"boot-source":{"boot_args":"` + strings.Repeat("a", maxBootArgs-50) + `"}}`, nil, "boot-source.boot_args"},
		"vcpus":                        {`{}`, func(rt *Runtime) { rt.VCPUs = 33 }, "machine-config.vcpu_count"},
		"memory":                       {`{}`, func(rt *Runtime) { rt.MemMiB = 0 }, "0 MiB"},
		"odd huge pages":               {`{}`, func(rt *Runtime) { rt.HugePages, rt.MemMiB = true, 513 }, "machine-config.mem_size_mib"},
		"volume out of the jail":       {`{}`, func(rt *Runtime) { rt.Volumes = []Volume{{Path: "../v", Mount: "/work"}} }, "../v"},
		"mount that is two words":      {`{}`, func(rt *Runtime) { rt.Volumes = []Volume{{Path: "/v", Mount: "/work ip=1"}} }, "/work ip=1"},
		"path out of the jail":         {`{}`, func(rt *Runtime) { rt.Data = "/../data" }, "/../data"},
		"relative path":                {`{}`, func(rt *Runtime) { rt.Kernel = "kernel" }, "kernel"},
		"TAP's name":                   {`{}`, func(rt *Runtime) { rt.TAP = "much-too-long-tap" }, "network-interfaces[0].host_dev_name"},
		"multicast MAC":                {`{}`, func(rt *Runtime) { rt.MAC = "01:00:00:00:00:01" }, "01:00"},
		"host name":                    {`{}`, func(rt *Runtime) { rt.Boot.Hostname = "a b" }, "host name"},
		"machine id":                   {`{}`, func(rt *Runtime) { rt.Boot.MachineID = "1" }, "machine id"},
		"name servers":                 {`{}`, func(rt *Runtime) { rt.Boot.DNS = append(rt.Boot.DNS, rt.Boot.IP) }, "DNS"},
		"extra word":                   {`{}`, func(rt *Runtime) { rt.Boot.Extra = map[string]string{"a": "b c"} }, "mvm.a"},
	} {
		base, err := Parse([]byte(c.base))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rt := testRuntime()
		if c.change != nil {
			c.change(&rt)
		}
		if _, err := Final(base, rt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want it to name %q", name, err, c.want)
		}
	}
}

func TestErrorsStayPrintable(t *testing.T) {
	_, err := Parse([]byte("{\"\\u001b[31m" + strings.Repeat("x", 1000) + "\":1}"))
	var refusals Refusals
	if !errors.As(err, &refusals) || len(err.Error()) > 200 || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("err = %q", err)
	}
}

func TestVersion(t *testing.T) {
	for in, want := range map[string]Version{
		"1.16": {1, 16, 0}, "v1.16.1": {1, 16, 1}, "1.17.0-dev": {1, 17, 0}, "10.2.30": {10, 2, 30},
	} {
		if got, err := ParseVersion(in); err != nil || got != want {
			t.Errorf("ParseVersion(%q) = %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "1", "x1.2", "1.2.3.4", "1.99999", "1.2 "} {
		if v, err := ParseVersion(bad); err == nil {
			t.Errorf("ParseVersion(%q) = %v", bad, v)
		}
	}
	if !(Version{1, 9, 9}).Less(Version{1, 10, 0}) || (Version{1, 10, 0}).Less(Version{1, 10, 0}) {
		t.Error("Less does not compare numbers")
	}
}
