package fcconfig

import (
	"fmt"
	"strings"
	"testing"
)

// refusedWith fails unless doc is refused, first of all for what is at path.
func refusedWith(t *testing.T, read func([]byte) error, doc, path string) {
	t.Helper()
	err := read([]byte(doc))
	if err == nil {
		t.Errorf("%s is accepted", doc)
	} else if !strings.HasPrefix(err.Error(), path+": ") {
		t.Errorf("%s\n\tis refused with: %v\n\twant the path %s", doc, err, path)
	}
}

func parse(data []byte) error { _, err := Parse(data); return err }

func decode(data []byte) error { _, err := Decode(data); return err }

// TestUnknownFieldsOfEverySection: also where Firecracker ignores them, which
// is at the top, in metrics and in token buckets.
func TestUnknownFieldsOfEverySection(t *testing.T) {
	const x = `"unknown":1`
	limiter := func(at string) map[string]string { // of a limiter in the %s of at
		return map[string]string{
			fmt.Sprintf(at, `{`+x+`}`):                                               "unknown",
			fmt.Sprintf(at, `{"bandwidth":{"size":1,"refill_time":1,`+x+`}}`):        "bandwidth.unknown",
			fmt.Sprintf(at, `{"ops":{"size":1,"refill_time":1,`+x+`}}`):              "ops.unknown",
			fmt.Sprintf(at, `{"ops":{"size":1,"refill_time":1,"One_time_burst":1}}`): "ops.One_time_burst",
		}
	}
	docs := map[string]string{
		`{` + x + `}`:                                                  "unknown",
		`{"boot-source":{` + x + `}}`:                                  "boot-source.unknown",
		`{"drives":[{"drive_id":"data",` + x + `}]}`:                   "drives[0].unknown",
		`{"machine-config":{` + x + `}}`:                               "machine-config.unknown",
		`{"network-interfaces":[{"iface_id":"eth0",` + x + `}]}`:       "network-interfaces[0].unknown",
		`{"balloon":{"amount_mib":1,"deflate_on_oom":true,` + x + `}}`: "balloon.unknown",
		`{"entropy":{` + x + `}}`:                                      "entropy.unknown",
		`{"cpu-config":{` + x + `}}`:                                   "cpu-config.unknown",
		`{"cpu-config":{"cpuid_modifiers":[{"leaf":"1","subleaf":"0","flags":0,"modifiers":[],` + x + `}]}}`:                                  "cpu-config.cpuid_modifiers[0].unknown",
		`{"cpu-config":{"cpuid_modifiers":[{"leaf":"1","subleaf":"0","flags":0,"modifiers":[{"register":"eax","bitmap":"0b1",` + x + `}]}]}}`: "cpu-config.cpuid_modifiers[0].modifiers[0].unknown",
		`{"cpu-config":{"msr_modifiers":[{"addr":"1","bitmap":"0b1",` + x + `}]}}`:                                                            "cpu-config.msr_modifiers[0].unknown",
		`{"cpu-config":{"reg_modifiers":[{"addr":"1","bitmap":"0b1",` + x + `}]}}`:                                                            "cpu-config.reg_modifiers[0].unknown",
		`{"cpu-config":{"vcpu_features":[{"index":1,"bitmap":"0b1",` + x + `}]}}`:                                                             "cpu-config.vcpu_features[0].unknown",
	}
	for at, path := range map[string]string{
		`{"drives":[{"drive_id":"data","rate_limiter":%s}]}`:                "drives[0].rate_limiter.",
		`{"network-interfaces":[{"iface_id":"eth0","rx_rate_limiter":%s}]}`: "network-interfaces[0].rx_rate_limiter.",
		`{"network-interfaces":[{"iface_id":"eth0","tx_rate_limiter":%s}]}`: "network-interfaces[0].tx_rate_limiter.",
		`{"entropy":{"rate_limiter":%s}}`:                                   "entropy.rate_limiter.",
	} {
		for doc, inside := range limiter(at) {
			docs[doc] = path + inside
		}
	}
	for doc, path := range docs {
		refusedWith(t, parse, doc, path)
	}
	// What only a complete configuration may have.
	for section, path := range map[string]string{
		`"unknown":{}`: "unknown",
		`"vsock":{"guest_cid":3,"uds_path":"/v",` + x + `}`:                                                   "vsock.unknown",
		`"mmds-config":{"network_interfaces":["eth0"],` + x + `}`:                                             "mmds-config.unknown",
		`"logger":{"log_path":"/l",` + x + `}`:                                                                "logger.unknown",
		`"metrics":{"metrics_path":"/m",` + x + `}`:                                                           "metrics.unknown",
		`"pmem":[{"id":"p","path_on_host":"/p",` + x + `}]`:                                                   "pmem[0].unknown",
		`"pmem":[{"id":"p","path_on_host":"/p","rate_limiter":{"ops":{"size":1,"refill_time":1,` + x + `}}}]`: "pmem[0].rate_limiter.ops.unknown",
		`"memory-hotplug":{"total_size_mib":128,` + x + `}`:                                                   "memory-hotplug.unknown",
	} {
		refusedWith(t, decode, `{"boot-source":{"kernel_image_path":"/k"},"drives":[],"machine-config":{"vcpu_count":1,"mem_size_mib":128},`+section+`}`, path)
	}
}

// TestHostileBootArgs: what would smuggle one of mvm's words in, or mvm's own
// out of the kernel's sight.
func TestHostileBootArgs(t *testing.T) {
	for _, args := range []string{
		"ip=1", "ip", `"ip"=1`, `i"p"=1`, `'ip'=1`, "quiet ip=1 quiet", "-- ip=1", `"--" ip=1`, `"ip=1 2"`, "rd.ip=1",
		"nfsaddrs=1", "hostname=b", "systemd.hostname=b", "rd.systemd.hostname=b", "systemd.machine-id=b", "systemd.machine_id=b",
		"mvm", "mvm=1", "mvm.", "mvm.x", "mvm.x=1", "rd.mvm.x=1", `m"vm.x"=1`,
		`a="b`, `a='b`, `"`, `a="b'c`,
		"a\x00ip=1", "a\nip=1", "a\rip=1", "a\vip=1", "a\fip=1", "a\tip=1", "a\x7f", "a\u00a0ip=1", "a\u2028ip=1", "a\x1b[31m",
	} {
		refusedWith(t, parse, fmt.Sprintf(`{"boot-source":{"boot_args":%s}}`, quote(args)), "boot-source.boot_args")
	}
	refusedWith(t, parse, `{"boot-source":{"boot_args":"\ud800"}}`, "boot-source.boot_args")
	refusedWith(t, parse, `{"boot-source":{"boot_args":["a"]}}`, "boot-source.boot_args")
}

func quote(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return `"` + b.String() + `"`
}

// TestBootArgsOfATenant: its own words stay as they are, root= and init= among
// them, which concern its guest alone. mvm's follow, where the kernel reads
// them.
func TestBootArgsOfATenant(t *testing.T) {
	const mvms = "ip=10.50.0.10::10.50.0.1:255.255.255.0:acme:eth0:off:1.1.1.1:9.9.9.9 systemd.hostname=acme systemd.machine_id=0123456789abcdef0123456789abcdef"
	for args, want := range map[string]string{
		"":                                 mvms,
		"root=/dev/vda init=/sbin/init rw": "root=/dev/vda init=/sbin/init rw " + mvms,
		"IP=1 ipv6.disable=1 zip=2":        "IP=1 ipv6.disable=1 zip=2 " + mvms, // other words to the kernel
		`x="a b" -- single`:                `x="a b" ` + mvms + ` -- single`,
		`quiet "--" single`:                `quiet ` + mvms + ` "--" single`, // the kernel stops here, too
		"-- single":                        mvms + " -- single",
	} {
		base, err := Parse([]byte(fmt.Sprintf(`{"boot-source":{"boot_args":%s}}`, quote(args))))
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		cfg, err := Final(base, testRuntime())
		if err != nil || cfg.BootSource.BootArgs != want {
			t.Errorf("%q gives %v\n\t%q, want\n\t%q", args, err, cfg.BootSource.BootArgs, want)
		}
	}
}

// TestBootArgsFit: the longest command line that is taken fits into
// Firecracker's 2048 bytes with all that it appends, and the longest words of
// the most volumes leave room for a flake's.
func TestBootArgsFit(t *testing.T) {
	for _, volumes := range []int{0, 1, 8} {
		t.Run(fmt.Sprintf("%d volumes", volumes), func(t *testing.T) { bootArgsFit(t, volumes) })
	}
}

func bootArgsFit(t *testing.T, volumes int) {
	devices := 3 + volumes + 1 + 1 + 1 // drives, interface, entropy, balloon
	appended := " pci=off root=/dev/vda ro earlycon=uart,mmio,0xffffffffffffffff" +
		strings.Repeat(" virtio_mmio.device=4K@0xffffffffffffffff:999", devices)
	most := maxBootArgs - volumes*mmioWord
	if n := most + len(appended) + 1; n > 2048 {
		t.Errorf("the longest command line has %d bytes in the end", n)
	}
	rt := testRuntime()
	for range volumes {
		rt.Volumes = append(rt.Volumes, Volume{Path: "/v", Mount: "/" + strings.Repeat("m", 63)})
	}
	for length, taken := range map[int]bool{most: true, most + 1: false, 100_000: false} {
		empty, err := Final(Base{}, rt)
		if err != nil {
			t.Fatal(err)
		}
		mvms := len(empty.BootSource.BootArgs) - len(DefaultBootArgs)
		base, err := Parse([]byte(`{"boot-source":{"boot_args":"` + strings.Repeat("a", length-mvms) + `"}}`))
		if err != nil {
			t.Fatal(err)
		}
		if cfg, err := Final(base, rt); (err == nil) != taken || err != nil && !strings.HasPrefix(err.Error(), "boot-source.boot_args: ") {
			t.Errorf("%d bytes: %v, %v", length, len(cfg.BootSource.BootArgs), err)
		}
	}
}

// TestHostileValues: numbers, nulls, names and types that readers of JSON take
// in different ways.
func TestHostileValues(t *testing.T) {
	size := `{"entropy":{"rate_limiter":{"ops":{"size":%s,"refill_time":1}}}}`
	for _, number := range []string{"9007199254740992", "18446744073709551616", "1e400", "1e2", "1.0", "-1", "-0", `"1"`, "true", "[]", "{}", strings.Repeat("9", 400)} {
		refusedWith(t, parse, fmt.Sprintf(size, number), "entropy.rate_limiter.ops.size")
	}
	for doc, path := range map[string]string{
		fmt.Sprintf(size, "null"):                                                             "entropy.rate_limiter.ops.size", // as if it were not there
		`{"machine-config":{"vcpu_count":0}}`:                                                 "machine-config.vcpu_count",
		`{"machine-config":{"mem_size_mib":0}}`:                                               "machine-config.mem_size_mib",
		`{"machine-config":{"mem_size_mib":99999999999999999999}}`:                            "machine-config.mem_size_mib",
		`{"machine-config":{"smt":"false"}}`:                                                  "machine-config.smt",
		`{"balloon":{"amount_mib":4294967296,"deflate_on_oom":true}}`:                         "balloon.amount_mib",
		`{"balloon":{"amount_mib":1,"deflate_on_oom":"no"}}`:                                  "balloon.deflate_on_oom",
		`{"balloon":{"amount_mib":1,"deflate_on_oom":true,"stats_polling_interval_s":65536}}`: "balloon.stats_polling_interval_s",
		`{"network-interfaces":[{"iface_id":"eth0","mtu":65536}]}`:                            "network-interfaces[0].mtu",
		`{"network-interfaces":[{"iface_id":"eth0"},{"iface_id":"eth0"}]}`:                    "network-interfaces[1].iface_id",
		`{"network-interfaces":[{"iface_id":"eth0\u0000"}]}`:                                  "network-interfaces[0].iface_id",
		`{"network-interfaces":[null]}`:                                                       "network-interfaces[0]",
		`{"drives":[{"drive_id":"Data"}]}`:                                                    "drives[0].drive_id",
		`{"drives":[{"drive_id":"data\n"}]}`:                                                  "drives[0].drive_id",
		`{"drives":[{"drive_id":null}]}`:                                                      "drives[0].drive_id",
		`{"drives":[{"drive_id":"data","cache_type":"unsafe"}]}`:                              "drives[0].cache_type",
		`{"drives":[{"drive_id":"rootfs","is_root_device":"true"}]}`:                          "drives[0].is_root_device",
		`{"cpu-config":""}`:                                                                   "cpu-config",
		`{"cpu-config":{"kvm_capabilities":["171\n"]}}`:                                       "cpu-config.kvm_capabilities[0]",
		`{"cpu-config":{"msr_modifiers":[{"addr":"0x1","bitmap":"0b1\n"}]}}`:                  "cpu-config.msr_modifiers[0].bitmap",

		// One name twice, also where it is written in another way.
		`{"drives":[],"\u0064rives":[]}`:                           "drives",
		`{"vsock":null,"vsock":{}}`:                                "vsock",
		`{"drives":[],"DRIVES":[]}`:                                "DRIVES",
		`{"drives\u0000":[]}`:                                      "drives?",
		`{"boot-source":{"boot_args":"a","Boot_Args":"b"}}`:        "boot-source.Boot_Args",
		`{"entropy":{"rate_limiter":{"ops":{"size":1,"size":2}}}}`: "entropy.rate_limiter.ops.size",
		`{"drives":[{"drive_id":"data","drive_id":"rootfs"}]}`:     "drives[0].drive_id",

		// A newer Firecracker opens no forbidden section.
		`{"firecracker-version":"9.0","vsock":{"guest_cid":3}}`:                     "vsock",
		`{"firecracker-version":"9.0","logger":{"level":"Info"}}`:                   "logger",
		`{"firecracker-version":"9.0","drives":[{"drive_id":"data","socket":"x"}]}`: "drives[0].socket",
	} {
		refusedWith(t, parse, doc, path)
	}
	// Null is what is not there.
	base, err := Parse([]byte(`{"boot-source":{"boot_args":null},"drives":null,"vsock":null,"logger":null,"unknown":null,"machine-config":null}`))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Final(base, testRuntime())
	if err != nil {
		t.Fatal(err)
	}
	if want, err := Final(Base{}, testRuntime()); err != nil || string(cfg.JSON()) != string(want.JSON()) {
		t.Errorf("nulls give %s", cfg.JSON())
	}
}
