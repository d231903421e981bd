package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auser/mvm/internal/tenant"
)

// keepsItsValue takes the default out of a flag's help: what is not given stays
// as it is.
func keepsItsValue(f *pflag.Flag) {
	f.DefValue = map[string]string{"int": "0", "bool": "false", "stringArray": "[]"}[f.Value.Type()]
}

// specFlags adds the flags that make up a spec, with its defaults.
func specFlags(cmd *cobra.Command, spec *tenant.Spec) {
	f := cmd.Flags()
	f.StringVar(&spec.FlakeRef, "flake", tenant.DefaultFlake, "where the guest is defined: a folder with a flake.nix, or a flake reference")
	f.StringVar(&spec.Profile, "profile", tenant.DefaultProfile, "which guest of the flake")
	f.IntVar(&spec.VCPUs, "cpus", tenant.DefaultVCPUs, "number of vCPUs, 1 to 32")
	f.IntVar(&spec.MemMiB, "mem", tenant.DefaultMemMiB, "memory in MiB")
	f.IntVar(&spec.DataMiB, "data-size", tenant.DefaultDataMiB, "size of the data volume in MiB; it can grow, not shrink")
	f.StringVar(&spec.Egress, "egress", "open", "what the guest may reach: open, none or allow:<cidr>[:<tcp|udp>/<port>],…")
	f.StringVar(&spec.Restart, "restart", "no", "when to start it again: no, on-failure[:n], always or unless-stopped")
	machineFlags(cmd, &spec.Machine)
}

// machineFlags adds the flags of what a spec may say of its machine.
func machineFlags(cmd *cobra.Command, m *tenant.Machine) {
	f := cmd.Flags()
	f.StringVar(&m.Balloon, "balloon", "", "MiB that a balloon takes from the guest at its start; with any, also 0, what the guest frees goes back to the host")
	f.BoolVar(&m.HugePages, "huge-pages", false, "back the memory with 2 MiB pages, which the host must have reserved")
	f.StringVar(&m.CPUTemplate, "cpu-template", "", "Firecracker's CPU template: "+strings.Join(tenant.CPUTemplates, ", "))
	const unlimited = "; 0 sets no limit"
	f.IntVar(&m.DiskMiBPerSec, "disk-mib-per-sec", 0, "MiB a second that each disk may transfer"+unlimited)
	f.IntVar(&m.DiskOpsPerSec, "disk-ops-per-sec", 0, "operations a second of each disk"+unlimited)
	f.IntVar(&m.NetRxMbit, "net-rx-mbit", 0, "Mbit a second to the guest"+unlimited)
	f.IntVar(&m.NetTxMbit, "net-tx-mbit", 0, "Mbit a second from the guest"+unlimited)
	f.IntVar(&m.NetRxPktsPerSec, "net-rx-pkts-per-sec", 0, "packets a second to the guest"+unlimited)
	f.IntVar(&m.NetTxPktsPerSec, "net-tx-pkts-per-sec", 0, "packets a second from the guest"+unlimited)
}

// volumeFlag adds the flag that names volumes, one each time.
func volumeFlag(cmd *cobra.Command, volumes *[]string) {
	cmd.Flags().StringArrayVarP(volumes, "volume", "v", nil, `a volume beside the data, which may be repeated: <size>:<mount> is kept from run to run, as 20G:/work;
<folder>:<mount> is a copy of a folder of the host, made at each start, from which nothing comes back;
none:<mount> takes one away; <size>:/data is the data volume's size`)
}

func parseVolumes(given []string) ([]tenant.Volume, error) {
	changes := make([]tenant.Volume, 0, len(given))
	for _, text := range given {
		v, err := tenant.ParseVolume(text)
		if err != nil {
			return nil, err
		}
		changes = append(changes, v)
	}
	return changes, nil
}
