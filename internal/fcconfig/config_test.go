package fcconfig

import (
	"net/netip"
	"testing"
)

func testRuntime() Runtime {
	return Runtime{
		Kernel: "/kernel", Rootfs: "/rootfs.ext4", Data: "/data.ext4", Secrets: "/secrets.ext4",
		Boot: BootWords{
			IP: netip.MustParseAddr("10.50.0.10"), Gateway: netip.MustParseAddr("10.50.0.1"), Bits: 24,
			DNS:      []netip.Addr{netip.MustParseAddr("1.1.1.1")},
			Hostname: "acme", MachineID: "0123456789abcdef0123456789abcdef",
		},
		VCPUs: 2, MemMiB: 512, TAP: "tap-acme", MAC: "02:12:34:56:78:9a",
	}
}

func TestQuick(t *testing.T) {
	b, err := Parse([]byte(`{"boot-source":{"boot_args":"console=ttyS0 a -- b"},"drives":[{"drive_id":"rootfs","rate_limiter":{"ops":{"size":1,"refill_time":2}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Final(b, testRuntime())
	t.Logf("%v\n%s", err, c.JSON())
}
