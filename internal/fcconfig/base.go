package fcconfig

import "fmt"

// The drives and the interface that every machine has, in the order in which
// the guest sees them: vda, vdb, vdc and eth0.
const (
	DriveRootfs  = "rootfs"
	DriveData    = "data"
	DriveSecrets = "secrets"
	Interface    = "eth0"
)

// versionField is mvm's own: the Firecracker that a base configuration is
// written for. It never reaches Firecracker.
const versionField = "firecracker-version"

// Base is a checked base configuration.
type Base struct {
	doc   map[string]any
	needs Version // as it declares; zero where it does not
}

const (
	noPaths   = "a base configuration may not name files, sockets or devices of the host"
	noOutputs = "where logs and metrics go is for mvm to say"
	noMemory  = "a machine's memory is what its tenant was given"
)

// baseRule is what a flake may say. Everything else is mvm's to say, because
// it reaches the host: paths, sockets, devices, sizes.
var baseRule = object(fields{
	versionField: text,
	"boot-source": object(fields{
		"kernel_image_path": placeholder,
		"initrd_path":       placeholder,
		"boot_args":         bootArgsRule,
	}),
	"drives": list(baseDriveRule),
	"machine-config": object(fields{
		"vcpu_count":        integer(1, MaxVCPUs), // the spec's value wins
		"mem_size_mib":      integer(1, maxNumber),
		"smt":               always(false, "threads of one core are not shared"),
		"cpu_template":      templateRule,
		"track_dirty_pages": always(false, "snapshots are not taken"),
		"huge_pages":        baseHugePages,
	}),
	"cpu-config":         baseCPUConfig,
	"network-interfaces": list(baseInterfaceRule),
	"balloon":            balloonRule,
	"entropy":            entropyRule,

	"vsock":          forbidden(noPaths),
	"pmem":           forbidden(noPaths),
	"memory-hotplug": forbidden(noMemory),
	"mmds-config":    forbidden("the metadata service is not offered to tenants"),
	"logger":         forbidden(noOutputs),
	"metrics":        forbidden(noOutputs),
	"serial":         forbidden(noOutputs),
})

var (
	baseDrive = object(fields{
		"drive_id":       oneOf(DriveRootfs, DriveData, DriveSecrets),
		"is_root_device": boolean,
		"is_read_only":   boolean,
		"path_on_host":   placeholder,
		"socket":         placeholder,
		"partuuid":       forbidden("the image has no partitions"),
		"cache_type":     cacheRule,
		"io_engine":      baseIOEngine,
		"rate_limiter":   limiterRule,
		"discard":        boolean,
		"blk_size":       blkSizeRule,
		"topology":       topologyRule,
	}, "drive_id")

	baseInterface = object(fields{
		"iface_id":        oneOf(Interface),
		"host_dev_name":   placeholder,
		"guest_mac":       placeholder,
		"mtu":             mtuRule,
		"rx_rate_limiter": limiterRule,
		"tx_rate_limiter": limiterRule,
	}, "iface_id")
)

func baseDriveRule(c *checker, path string, v any) {
	baseDrive(c, path, v)
	drive, ok := v.(map[string]any)
	if !ok {
		return
	}
	id := drive["drive_id"]
	if readOnly, said := drive["is_read_only"]; said && readOnly != (id != DriveData) {
		c.refuse(path+".is_read_only", "rootfs and secrets are read-only, data is not")
	}
	if drive["discard"] == true && id != DriveData {
		c.refuse(path+".discard", "only data can be written")
	}
	if drive["is_root_device"] == true && id != DriveRootfs {
		c.refuse(path+".is_root_device", "only rootfs can be the root device")
	}
}

func baseInterfaceRule(c *checker, path string, v any) { baseInterface(c, path, v) }

func baseHugePages(c *checker, path string, v any) {
	if v != "None" {
		c.refuse(path, "huge pages are the host's to give")
	}
}

func baseIOEngine(c *checker, path string, v any) {
	if v != "Sync" {
		c.refuse(path, "may only be Sync")
	}
}

func baseCPUConfig(c *checker, path string, v any) {
	if _, isPath := v.(string); isPath {
		c.refuse(path, "%s", noPaths)
		return
	}
	cpuTemplateRule(c, path, v)
}

// Parse reads a base configuration as a flake gives it. Everything that it
// may not say is refused with its JSON path; the error is then Refusals.
//
// The final configuration demands the version of Firecracker that the base
// declares in "firecracker-version". A base for a newer one than the model's may
// hold further fields inside the sections that it may use, as long as their
// values can name nothing on the host.
func Parse(data []byte) (Base, error) {
	doc, err := parseDocument(data)
	if err != nil {
		return Base{}, err
	}
	c, base := &checker{}, Base{doc: doc}
	if declared, ok := doc[versionField].(string); ok {
		v, err := ParseVersion(declared)
		if err != nil {
			c.refuse(versionField, "%s is no version", clip(declared))
		}
		c.newer, base.needs = v.beyondModel(), v
	}
	baseRule(c, "", doc)
	uniqueIDs(c, doc, "drives", "drive_id")
	uniqueIDs(c, doc, "network-interfaces", "iface_id")
	if err := c.err(); err != nil {
		return Base{}, err
	}
	delete(doc, versionField)
	return base, nil
}

// uniqueIDs refuses two entries of one id: which of them counts would depend
// on the reader.
func uniqueIDs(c *checker, doc map[string]any, section, key string) {
	items, _ := doc[section].([]any)
	seen := map[string]bool{}
	for i, item := range items {
		m, _ := item.(map[string]any)
		id, ok := m[key].(string)
		if ok && seen[id] {
			c.refuse(fmt.Sprintf("%s[%d].%s", section, i, key), "%s is used twice", clip(id))
		}
		seen[id] = true
	}
}
