package fcconfig

import (
	"encoding/json"
	"math"
)

// What Firecracker 1.17 accepts. mvm is stricter than Firecracker where that
// ignores what it does not know: at the top level, in metrics and in token
// buckets.

const (
	// MaxVCPUs is the most that Firecracker gives a machine.
	MaxVCPUs = 32
	// maxBootArgs leaves room for what Firecracker appends (root device,
	// pci=off and up to eight virtio_mmio.device words) within 2048 bytes;
	// mmioWord is taken off for each drive beside the three of every machine.
	maxBootArgs = 1700
	mmioWord    = len(" virtio_mmio.device=4K@0xffffffffffffffff:999")
	// maxNumber keeps numbers exact for every JSON reader.
	maxNumber = 1<<53 - 1
)

var (
	macPattern    = pattern(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$`)
	devicePattern = pattern(`^[A-Za-z0-9._-]{1,15}$`)
	namePattern   = pattern(`^[A-Za-z0-9_]{1,64}$`)
	pathPattern   = pattern(`^[!-~]+$`)
	linkLocal     = pattern(`^169\.254\.[0-9]{1,3}\.[0-9]{1,3}$`)
	numeral       = pattern(`^(0x[0-9a-fA-F]{1,16}|0b[01]{1,64}|[0-9]{1,20})$`)
	bitmap        = pattern(`^0b[01x_]{1,160}$`)
	capability    = pattern(`^!?[0-9]{1,10}$`)
)

var (
	bucketRule = object(fields{
		"size":           integer(0, maxNumber),
		"refill_time":    integer(0, maxNumber),
		"one_time_burst": integer(0, maxNumber),
	}, "size", "refill_time")

	limiterRule = object(fields{"bandwidth": bucketRule, "ops": bucketRule})

	blkSizeRule  = since(v1_17, blkSize)
	topologyRule = since(v1_17, object(fields{
		"physical_block_exp": integer(0, math.MaxUint8),
		"alignment_offset":   integer(0, math.MaxUint8),
		"min_io_size":        integer(0, math.MaxUint16),
		"opt_io_size":        integer(0, math.MaxUint32),
	}))

	cacheRule    = oneOf("Unsafe", "Writeback")
	mtuRule      = integer(68, 65535)
	templateRule = oneOf("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None")
	entropyRule  = object(fields{"rate_limiter": limiterRule})

	balloonRule = object(fields{
		"amount_mib":               integer(0, math.MaxUint32),
		"deflate_on_oom":           boolean,
		"stats_polling_interval_s": integer(0, math.MaxUint16),
		"free_page_reporting":      boolean,
		"free_page_hinting":        boolean,
	}, "amount_mib", "deflate_on_oom")

	cpuTemplateRule = object(fields{
		"kvm_capabilities": list(matching(capability, "KVM capability")),
		"cpuid_modifiers": list(object(fields{
			"leaf":    matching(numeral, "number"),
			"subleaf": matching(numeral, "number"),
			"flags":   integer(0, math.MaxInt32),
			"modifiers": list(object(fields{
				"register": oneOf("eax", "ebx", "ecx", "edx"),
				"bitmap":   matching(bitmap, "bitmap"),
			}, "register", "bitmap")),
		}, "leaf", "subleaf", "flags", "modifiers")),
		"msr_modifiers": list(object(fields{
			"addr":   matching(numeral, "number"),
			"bitmap": matching(bitmap, "bitmap"),
		}, "addr", "bitmap")),
		"reg_modifiers": list(object(fields{
			"addr":   matching(numeral, "number"),
			"bitmap": matching(bitmap, "bitmap"),
		}, "addr", "bitmap")),
		"vcpu_features": list(object(fields{
			"index":  integer(0, math.MaxInt32),
			"bitmap": matching(bitmap, "bitmap"),
		}, "index", "bitmap")),
	})

	driveRule = object(fields{
		"drive_id":       matching(namePattern, "drive id"),
		"is_root_device": boolean,
		"path_on_host":   matching(pathPattern, "path"),
		"socket":         matching(pathPattern, "path"),
		"is_read_only":   boolean,
		"partuuid":       matching(pattern(`^[0-9a-fA-F-]{1,36}$`), "partition UUID"),
		"cache_type":     cacheRule,
		"io_engine":      oneOf("Sync", "Async"),
		"rate_limiter":   limiterRule,
		"discard":        since(v1_17, boolean),
		"blk_size":       blkSizeRule,
		"topology":       topologyRule,
	}, "drive_id", "is_root_device")

	interfaceRule = object(fields{
		"iface_id":        matching(namePattern, "interface id"),
		"host_dev_name":   matching(devicePattern, "name of a network device"),
		"guest_mac":       matching(macPattern, "MAC address"),
		"mtu":             mtuRule,
		"rx_rate_limiter": limiterRule,
		"tx_rate_limiter": limiterRule,
	}, "iface_id", "host_dev_name")

	configRule = object(fields{
		"boot-source": object(fields{
			"kernel_image_path": matching(pathPattern, "path"),
			"initrd_path":       matching(pathPattern, "path"),
			"boot_args":         text,
		}, "kernel_image_path"),
		"drives": list(driveRule),
		"machine-config": object(fields{
			"vcpu_count":        integer(1, MaxVCPUs),
			"mem_size_mib":      integer(1, math.MaxUint32),
			"smt":               boolean,
			"cpu_template":      templateRule,
			"track_dirty_pages": boolean,
			"huge_pages":        hugePagesRule,
		}, "vcpu_count", "mem_size_mib"),
		"cpu-config":         cpuConfigRule,
		"network-interfaces": list(interfaceRule),
		"vsock": object(fields{
			"guest_cid": integer(3, math.MaxUint32),
			"uds_path":  matching(pathPattern, "path"),
			"vsock_id":  matching(namePattern, "vsock id"),
		}, "guest_cid", "uds_path"),
		"balloon": balloonRule,
		"entropy": entropyRule,
		"pmem": list(object(fields{
			"id":           matching(namePattern, "pmem id"),
			"path_on_host": matching(pathPattern, "path"),
			"root_device":  boolean,
			"read_only":    boolean,
			"rate_limiter": limiterRule,
		}, "id", "path_on_host")),
		"memory-hotplug": object(fields{
			"total_size_mib": integer(1, math.MaxUint32),
			"block_size_mib": integer(2, math.MaxUint32),
			"slot_size_mib":  integer(128, math.MaxUint32),
		}, "total_size_mib"),
		"mmds-config": object(fields{
			"network_interfaces": list(matching(namePattern, "interface id")),
			"version":            oneOf("V1", "V2"),
			"ipv4_address":       matching(linkLocal, "link-local address"),
			"imds_compat":        boolean,
		}, "network_interfaces"),
		"logger": object(fields{
			"log_path":        matching(pathPattern, "path"),
			"level":           oneOf("Off", "Error", "Warning", "Warn", "Info", "Debug", "Trace"),
			"show_level":      boolean,
			"show_log_origin": boolean,
			"module":          text,
		}),
		"metrics": object(fields{
			"metrics_path": matching(pathPattern, "path"),
			"emit_id":      since(v1_17, boolean),
			"properties":   since(v1_17, each(text)),
		}, "metrics_path"),
	}, "boot-source", "drives")
)

// v1_17 is the release that brought the fields and words that say so.
var v1_17 = Version{1, 17, 0}

// blkSize takes the sizes of a block that guests' kernels take, too.
func blkSize(c *checker, path string, v any) {
	switch v {
	case json.Number("512"), json.Number("1024"), json.Number("2048"), json.Number("4096"):
	default:
		c.refuse(path, "want 512, 1024, 2048 or 4096")
	}
}

func hugePagesRule(c *checker, path string, v any) {
	if v == "Transparent" {
		c.demand(v1_17)
	}
	oneOf("None", "Transparent", "2M")(c, path, v)
}

// cpuConfigRule takes the path of a CPU template, or one inline.
func cpuConfigRule(c *checker, path string, v any) {
	if _, isPath := v.(string); isPath {
		matching(pathPattern, "path")(c, path, v)
		return
	}
	cpuTemplateRule(c, path, v)
}

// Decode reads a complete configuration, such as a written fc.final.json. It
// is as strict as the model: what Firecracker would silently ignore is
// refused with its path.
func Decode(data []byte) (Config, error) {
	doc, err := parseDocument(data)
	if err != nil {
		return Config{}, err
	}
	return newConfig(doc, Version{})
}

// newConfig checks doc against the model and against the rules that concern
// more than one field, and gives it its types.
func newConfig(doc map[string]any, needs Version) (Config, error) {
	c := &checker{newer: needs.beyondModel(), needs: needs}
	configRule(c, "", doc)
	if err := c.err(); err != nil {
		return Config{}, err
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return Config{}, err
	}
	cfg := Config{doc: doc, MinVersion: c.needs, Unmodelled: c.unmodelled}
	if err := json.Unmarshal(data, &cfg); err != nil {
		return Config{}, err
	}
	cfg.check(c)
	return cfg, c.err()
}

// check applies the rules that Firecracker's code enforces across fields.
func (cfg *Config) check(c *checker) {
	if most := maxBootArgs - mmioWord*max(len(cfg.Drives)-3, 0); len(cfg.BootSource.BootArgs) > most {
		c.refuse("boot-source.boot_args", "has %d bytes, at most %d are allowed", len(cfg.BootSource.BootArgs), most)
	}
	if why := badBootArgs(cfg.BootSource.BootArgs); why != "" {
		c.refuse("boot-source.boot_args", "%s", why)
	}
	cfg.checkDevices(c)
	m := cfg.Machine
	if m.SMT && m.VCPUCount != 1 && m.VCPUCount%2 != 0 {
		c.refuse("machine-config.vcpu_count", "must be 1 or even with smt")
	}
	if m.HugePages != "" && m.HugePages != "None" && m.MemSizeMiB%2 != 0 {
		c.refuse("machine-config.mem_size_mib", "must be even with huge pages")
	}
	if cfg.CPU != nil && m.CPUTemplate != "" && m.CPUTemplate != "None" {
		c.refuse("cpu-config", "cannot stand beside machine-config.cpu_template")
	}
	if cfg.Balloon != nil && cfg.Balloon.AmountMiB > max(m.MemSizeMiB, 128) {
		c.refuse("balloon.amount_mib", "is more than the machine's memory")
	}
}

func (cfg *Config) checkDevices(c *checker) {
	roots, seen := 0, map[string]bool{}
	once := func(path, kind, id string) {
		if id != "" && seen[kind+id] {
			c.refuse(path, "%q is used twice", id)
		}
		seen[kind+id] = true
	}
	for i, d := range cfg.Drives {
		at := index("drives", i)
		once(at+".drive_id", "drive ", d.DriveID)
		if d.IsRootDevice {
			roots++
		}
		if (d.PathOnHost == "") == (d.Socket == "") {
			c.refuse(at, "wants either path_on_host or socket")
		}
		if d.PartUUID != "" && !d.IsRootDevice {
			c.refuse(at+".partuuid", "is for the root device alone")
		}
		if d.Discard && (d.IsReadOnly || d.IOEngine == "Async") {
			c.refuse(at+".discard", "is for disks that can be written, with the Sync engine alone")
		}
		if d.Socket != "" && (d.Discard || d.BlkSize != 0 || d.Topology != nil) {
			c.refuse(at, "discard, blk_size and topology are for a path_on_host alone")
		}
	}
	for i, p := range cfg.Pmem {
		once(index("pmem", i)+".id", "pmem ", p.ID)
		if p.RootDevice {
			roots++
		}
	}
	for i, n := range cfg.NetworkInterfaces {
		at := index("network-interfaces", i)
		once(at+".iface_id", "interface ", n.IfaceID)
		once(at+".guest_mac", "mac ", n.GuestMAC)
	}
	switch {
	case roots > 1:
		c.refuse("drives", "hold more than one root device")
	case roots > 0 && cfg.BootSource.InitrdPath != "":
		c.refuse("drives", "hold a root device although there is an initrd")
	}
}
