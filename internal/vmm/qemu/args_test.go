package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fcconfig"

	"github.com/auser/mvm/internal/goldenfile"
)

// finalDir holds the final configurations that package fcconfig makes.
const finalDir = "../../fcconfig/testdata/final"

func decode(t *testing.T, path string) fcconfig.Config {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := fcconfig.Decode(data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return cfg
}

// TestArgs: every final configuration either has its command line in testdata,
// or is refused in whole.
func TestArgs(t *testing.T) {
	for _, c := range []struct {
		golden, config string
		target         Target
	}{
		{"minimal", "minimal", Target{"amd64", TCG, 2596136}},
		{"skeleton", "skeleton", Target{"amd64", TCG, 2596136}},
		{"skeleton-kvm", "skeleton", Target{"amd64", KVM, 0}},
		{"skeleton-arm64", "skeleton", Target{"arm64", TCG, 0}},
		{"throttled", "throttled", Target{"amd64", TCG, 0}},
		{"volumes", "volumes", Target{"amd64", TCG, 0}},
		{"devices", "../../../vmm/qemu/testdata/devices", Target{"amd64", TCG, 0}},
	} {
		t.Run(c.golden, func(t *testing.T) {
			args, err := Args("acme", decode(t, filepath.Join(finalDir, c.config+".json")), c.target)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(args, "\n") + "\n"
			goldenfile.Check(t, filepath.Join("testdata", c.golden+".args"), got)
		})
	}
}

const drive = `"boot-source":{"kernel_image_path":"/k"},"machine-config":{"vcpu_count":1,"mem_size_mib":128},"drives":[{"drive_id":"rootfs","is_root_device":true,"path_on_host":"/r"`

// TestUntranslatable: what QEMU has no equal for is refused by its path.
func TestUntranslatable(t *testing.T) {
	for doc, path := range map[string]string{
		`{` + drive + `}],"cpu-config":{}}`:                                                                                  "cpu-config",
		`{` + drive + `}],"vsock":{"guest_cid":3,"uds_path":"/v"}}`:                                                          "vsock",
		`{` + drive + `}],"pmem":[{"id":"p","path_on_host":"/p"}]}`:                                                          "pmem",
		`{` + drive + `}],"memory-hotplug":{"total_size_mib":128}}`:                                                          "memory-hotplug",
		`{` + drive + `}],"mmds-config":{"network_interfaces":[]}}`:                                                          "mmds-config",
		`{` + drive + `}],"logger":{"log_path":"/l"}}`:                                                                       "logger",
		`{` + drive + `}],"metrics":{"metrics_path":"/m"}}`:                                                                  "metrics",
		`{` + drive + `}],"balloon":{"amount_mib":1,"deflate_on_oom":false}}`:                                                "balloon.amount_mib",
		`{` + drive + `}],"balloon":{"amount_mib":0,"deflate_on_oom":false,"stats_polling_interval_s":1}}`:                   "balloon.stats_polling_interval_s",
		`{` + drive + `}],"balloon":{"amount_mib":0,"deflate_on_oom":false,"free_page_hinting":true}}`:                       "balloon.free_page_hinting",
		`{` + drive + `}],"entropy":{"rate_limiter":{"ops":{"size":1,"refill_time":1}}}}`:                                    "entropy.rate_limiter.ops",
		`{` + drive + `,"rate_limiter":{"ops":{"size":1,"refill_time":1,"one_time_burst":1}}}]}`:                             "drives[0].rate_limiter.ops.one_time_burst",
		`{` + drive + `,"rate_limiter":{"bandwidth":{"size":9007199254740991,"refill_time":1}}}]}`:                           "drives[0].rate_limiter.bandwidth",
		`{` + drive + `,"rate_limiter":{"ops":{"size":1,"refill_time":1001}}}]}`:                                             "drives[0].rate_limiter.ops",
		`{` + drive + `},{"drive_id":"x","is_root_device":false,"socket":"/s"}]}`:                                            "drives[1].socket",
		`{` + drive + `,"blk_size":4096}]}`:                                                                                  "drives[0]",
		`{` + drive + `,"topology":{"min_io_size":8}}]}`:                                                                     "drives[0]",
		`{` + drive + `}],"network-interfaces":[{"iface_id":"a","host_dev_name":"a","tx_rate_limiter":{}}]}`:                 "network-interfaces[0]",
		`{` + drive + `}],"network-interfaces":[{"iface_id":"a","host_dev_name":"a"},{"iface_id":"b","host_dev_name":"b"}]}`: "network-interfaces[1]",
		strings.Replace(`{`+drive+`}]}`, `"vcpu_count":1`, `"vcpu_count":1,"track_dirty_pages":true`, 1):                     "machine-config.track_dirty_pages",
		strings.Replace(`{`+drive+`}]}`, `"vcpu_count":1`, `"vcpu_count":1,"cpu_template":"T2"`, 1):                          "machine-config.cpu_template",
	} {
		cfg, err := fcconfig.Decode([]byte(doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		var refused *TranslateError
		if _, err := Args("a", cfg, Target{"amd64", TCG, 0}); !errors.As(err, &refused) || !strings.HasPrefix(refused.Path, path) {
			t.Errorf("%s\n\terr = %v, want %s refused", doc, err, path)
		}
	}
}

func TestUnknownTargets(t *testing.T) {
	cfg := decode(t, filepath.Join(finalDir, "minimal.json"))
	for _, target := range []Target{{"riscv64", TCG, 0}, {"amd64", "", 0}} {
		if _, err := Args("a", cfg, target); err == nil {
			t.Errorf("there is a command line for %+v", target)
		}
	}
}
