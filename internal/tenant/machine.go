package tenant

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what a spec may say of its machine.
const (
	maxDiskMiBPerSec = 1 << 20   // 1 TiB a second
	maxNetMbit       = 1_000_000 // 1 Tbit a second
	maxOpsPerSec     = 100_000_000
)

// CPUTemplates are Firecracker's own, which make different CPUs look alike to a
// guest: all but V1N1 are for x86_64.
var CPUTemplates = []string{"None", "C3", "T2", "T2S", "T2CL", "T2A", "V1N1"}

// Machine is what a spec may say of its machine beyond its size. What is left
// out stays as the flake's base configuration has it, which is usually without
// a limit. Every limit holds per second and comes back within one.
type Machine struct {
	// Balloon is how many MiB a balloon takes from the guest at its start, as
	// a number; "" is no balloon of mvm's. Also an empty one ("0") gives the
	// memory that the guest frees back to the host.
	Balloon     string `json:"balloon,omitzero"`
	HugePages   bool   `json:"huge_pages,omitzero"` // 2 MiB pages, which the host has reserved
	CPUTemplate string `json:"cpu_template,omitzero"`

	DiskMiBPerSec   int `json:"disk_mib_per_sec,omitzero"`    // of each disk
	DiskOpsPerSec   int `json:"disk_ops_per_sec,omitzero"`    // of each disk
	NetRxMbit       int `json:"net_rx_mbit,omitzero"`         // to the guest, in 10^6 bits a second
	NetTxMbit       int `json:"net_tx_mbit,omitzero"`         // from the guest
	NetRxPktsPerSec int `json:"net_rx_pkts_per_sec,omitzero"` // to the guest
	NetTxPktsPerSec int `json:"net_tx_pkts_per_sec,omitzero"` // from the guest
}

// BalloonMiB is the size that the balloon begins with.
func (m Machine) BalloonMiB() (mib int, there bool) {
	if m.Balloon == "" {
		return 0, false
	}
	mib, _ = strconv.Atoi(m.Balloon) // Validate has looked at it
	return mib, true
}

// Fields are the fields by their names in spec.json, in their order there.
func (m Machine) Fields() []Field {
	return []Field{
		{"balloon", m.Balloon}, {"huge_pages", m.HugePages}, {"cpu_template", m.CPUTemplate},
		{"disk_mib_per_sec", m.DiskMiBPerSec}, {"disk_ops_per_sec", m.DiskOpsPerSec},
		{"net_rx_mbit", m.NetRxMbit}, {"net_tx_mbit", m.NetTxMbit},
		{"net_rx_pkts_per_sec", m.NetRxPktsPerSec}, {"net_tx_pkts_per_sec", m.NetTxPktsPerSec},
	}
}

// Field is a field of a spec and its value.
type Field struct {
	Name  string
	Value any
}

// OnlyFirecracker names the first thing that the software tier has no equal
// for, or "".
func (m Machine) OnlyFirecracker() string {
	balloon, _ := m.BalloonMiB()
	for _, f := range []struct {
		name string
		said bool
	}{
		{"balloon above 0", balloon > 0},
		{"cpu_template", m.CPUTemplate != "" && m.CPUTemplate != "None"},
		{"net_rx_mbit", m.NetRxMbit > 0}, {"net_tx_mbit", m.NetTxMbit > 0},
		{"net_rx_pkts_per_sec", m.NetRxPktsPerSec > 0}, {"net_tx_pkts_per_sec", m.NetTxPktsPerSec > 0},
	} {
		if f.said {
			return f.name
		}
	}
	return ""
}

func (m Machine) validate(memMiB int) error {
	if m.Balloon != "" {
		mib, err := strconv.Atoi(m.Balloon)
		if err != nil || mib < 0 || strconv.Itoa(mib) != m.Balloon || mib > memMiB-MinMemMiB {
			return &InputError{
				Msg:  fmt.Sprintf("%q is no size of a balloon in %d MiB of memory", m.Balloon, memMiB),
				Hint: fmt.Sprintf("--balloon takes 0 to %d (MiB): the guest keeps at least %d", max(memMiB-MinMemMiB, 0), MinMemMiB),
			}
		}
	}
	if m.HugePages && memMiB%2 != 0 {
		return &InputError{Msg: fmt.Sprintf("%d MiB of memory are no whole number of 2 MiB pages", memMiB), Hint: "give an even --mem with --huge-pages"}
	}
	if m.CPUTemplate != "" && !slices.Contains(CPUTemplates, m.CPUTemplate) {
		return &InputError{Msg: fmt.Sprintf("%q is no CPU template", m.CPUTemplate), Hint: "use " + strings.Join(CPUTemplates, ", ")}
	}
	for _, l := range []struct {
		what, flag string
		value, max int
	}{
		{"MiB a second of each disk", "--disk-mib-per-sec", m.DiskMiBPerSec, maxDiskMiBPerSec},
		{"operations a second of each disk", "--disk-ops-per-sec", m.DiskOpsPerSec, maxOpsPerSec},
		{"Mbit a second to the guest", "--net-rx-mbit", m.NetRxMbit, maxNetMbit},
		{"Mbit a second from the guest", "--net-tx-mbit", m.NetTxMbit, maxNetMbit},
		{"packets a second to the guest", "--net-rx-pkts-per-sec", m.NetRxPktsPerSec, maxOpsPerSec},
		{"packets a second from the guest", "--net-tx-pkts-per-sec", m.NetTxPktsPerSec, maxOpsPerSec},
	} {
		if err := checkRange(l.what, l.flag, l.value, 0, l.max); err != nil {
			return err
		}
	}
	return nil
}
