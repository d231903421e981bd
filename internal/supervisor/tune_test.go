package supervisor

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/goldenfile"
	"github.com/auser/mvm/internal/tenant"
)

// TestTune: what a spec says of its machine is in the final configuration. The
// golden files lie with those of fcconfig, where Firecracker's model and the
// QEMU driver are held to them.
func TestTune(t *testing.T) {
	for name, m := range map[string]tenant.Machine{
		"tuned": {
			Balloon: "128", HugePages: true, CPUTemplate: "T2A", DiskMiBPerSec: 100, DiskOpsPerSec: 5000,
			NetRxMbit: 1000, NetTxMbit: 200, NetRxPktsPerSec: 100_000, NetTxPktsPerSec: 50_000,
		},
		"throttled": {Balloon: "0", HugePages: true, DiskMiBPerSec: 100, DiskOpsPerSec: 5000},
	} {
		spec := tenant.Spec{TenantID: "acme", MemMiB: 512, Machine: m}
		spec.Defaults()
		if err := spec.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rt := fcconfig.Runtime{
			Kernel: "/kernel", Initrd: "/initrd", Rootfs: "/rootfs.ext4", Data: "/data.ext4", Secrets: "/secrets.ext4",
			Boot: fcconfig.BootWords{
				IP: netip.MustParseAddr("10.50.0.10"), Gateway: netip.MustParseAddr("10.50.0.1"), Bits: 24,
				Hostname: "acme", MachineID: strings.Repeat("0123456789abcdef", 2),
			},
			VCPUs: spec.VCPUs, MemMiB: spec.MemMiB, TAP: "tap-acme", MAC: "02:12:34:56:78:9a",
		}
		tune(&rt, spec.Machine)
		cfg, err := fcconfig.Final(fcconfig.Base{}, rt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		goldenfile.Check(t, "../fcconfig/testdata/final/"+name+".json", string(cfg.JSON()))
	}
}

// TestTuneNothing: a spec that says nothing leaves everything to the flake.
func TestTuneNothing(t *testing.T) {
	var rt fcconfig.Runtime
	tune(&rt, tenant.Machine{})
	if rt.HugePages || rt.CPUTemplate != "" || rt.Balloon != nil || rt.DiskLimit != nil || rt.RxLimit != nil || rt.TxLimit != nil {
		t.Errorf("%+v", rt)
	}
}
