package fcconfig

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"path"
)

// Runtime is what one run of a tenant puts into the configuration. Paths are
// those inside the jail.
type Runtime struct {
	Kernel  string
	Initrd  string // "" without one
	Rootfs  string
	Data    string
	Secrets string
	Volumes []Volume // further disks
	Boot    BootWords

	VCPUs       int
	MemMiB      int
	HugePages   bool     // back the memory with 2 MiB pages
	CPUTemplate string   // "" leaves it to the base configuration
	Balloon     *Balloon // nil leaves it to the base configuration

	TAP string
	MAC string

	DiskLimit *RateLimiter // of each disk; nil leaves it to the base configuration
	RxLimit   *RateLimiter
	TxLimit   *RateLimiter
}

// Volume is a disk beside the data that the guest mounts and may write to.
type Volume struct {
	Path    string // inside the jail
	Mount   string // in the guest
	Scratch bool   // nothing of it is kept: what the guest syncs need not be on the disk
}

// VolumeDevice names the i-th volume in the guest, where rootfs, data and secrets
// are vda, vdb and vdc. It is the id of its drive, too.
func VolumeDevice(i int) string { return "vd" + string(rune('d'+i)) }

// Final merges what one run says into the base configuration: objects key by
// key, drives and interfaces by their id, the run's value winning.
func Final(base Base, rt Runtime) (Config, error) {
	if err := rt.check(); err != nil {
		return Config{}, err
	}
	words, err := rt.Boot.words(rt.Volumes)
	if err != nil {
		return Config{}, err
	}
	if err := base.checkRootDevice(rt.rootDevice()); err != nil {
		return Config{}, err
	}
	args := DefaultBootArgs
	if boot, ok := base.doc["boot-source"].(map[string]any); ok {
		if given, ok := boot["boot_args"].(string); ok {
			args = given
		}
	}
	merged, err := json.Marshal(merge(base.doc, rt.document(AddBootWords(args, words...))))
	if err != nil {
		return Config{}, err
	}
	doc, err := parseDocument(merged)
	if err != nil {
		return Config{}, err
	}
	return newConfig(doc, base.needs)
}

// rootDevice says whether Firecracker names the root device to the kernel.
// With an initrd it may not: the initrd mounts the image.
func (rt Runtime) rootDevice() bool { return rt.Initrd == "" }

func (rt Runtime) check() error {
	paths := []string{rt.Kernel, rt.Rootfs, rt.Data, rt.Secrets}
	for _, v := range rt.Volumes {
		paths = append(paths, v.Path)
	}
	if rt.Initrd != "" {
		paths = append(paths, rt.Initrd)
	}
	for _, p := range paths {
		if !pathPattern.MatchString(p) || !path.IsAbs(p) || path.Clean(p) != p {
			return fmt.Errorf("%q is no path inside the jail", p)
		}
	}
	mac, err := net.ParseMAC(rt.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Errorf("%q is no MAC address of a device", rt.MAC)
	}
	if rt.MemMiB < 1 {
		return fmt.Errorf("%d MiB is no size of a memory", rt.MemMiB)
	}
	return nil
}

// checkRootDevice refuses a base configuration that says the opposite of what
// the machine gets, rather than giving its author another machine.
func (b Base) checkRootDevice(want bool) error {
	drives, _ := b.doc["drives"].([]any)
	for i, d := range drives {
		drive, _ := d.(map[string]any)
		if said, ok := drive["is_root_device"].(bool); ok && drive["drive_id"] == DriveRootfs && said != want {
			return Refusals{{index("drives", i) + ".is_root_device",
				fmt.Sprintf("must be %t: with an initrd, that mounts the image; without one, the kernel does", want)}}
		}
	}
	return nil
}

// document is the run's part of the configuration.
func (rt Runtime) document(bootArgs string) map[string]any {
	boot := map[string]any{"kernel_image_path": rt.Kernel, "boot_args": bootArgs}
	if rt.Initrd != "" {
		boot["initrd_path"] = rt.Initrd
	}
	machine := map[string]any{"vcpu_count": rt.VCPUs, "mem_size_mib": rt.MemMiB, "smt": false}
	if rt.HugePages {
		machine["huge_pages"] = "2M"
	}
	if rt.CPUTemplate != "" {
		machine["cpu_template"] = rt.CPUTemplate
	}
	nic := map[string]any{"iface_id": Interface, "host_dev_name": rt.TAP, "guest_mac": rt.MAC}
	addLimiter(nic, "rx_rate_limiter", rt.RxLimit)
	addLimiter(nic, "tx_rate_limiter", rt.TxLimit)
	doc := map[string]any{
		"boot-source":        boot,
		"drives":             rt.drives(),
		"machine-config":     machine,
		"network-interfaces": []any{nic},
		"entropy":            map[string]any{},
	}
	if b := rt.Balloon; b != nil {
		doc["balloon"] = map[string]any{
			"amount_mib":               b.AmountMiB,
			"deflate_on_oom":           b.DeflateOnOOM,
			"stats_polling_interval_s": b.StatsPollingIntervalS,
			"free_page_reporting":      b.FreePageReporting,
			"free_page_hinting":        b.FreePageHinting,
		}
	}
	return doc
}

// drives are the disks in the order in which the guest sees them.
func (rt Runtime) drives() []any {
	all := []any{
		rt.drive(DriveRootfs, rt.Rootfs, true, false),
		rt.drive(DriveData, rt.Data, false, true),
		rt.drive(DriveSecrets, rt.Secrets, true, false),
	}
	for i, v := range rt.Volumes {
		all = append(all, rt.drive(VolumeDevice(i), v.Path, false, !v.Scratch))
	}
	return all
}

func (rt Runtime) drive(id, file string, readOnly, keep bool) map[string]any {
	d := map[string]any{
		"drive_id":       id,
		"path_on_host":   file,
		"is_root_device": id == DriveRootfs && rt.rootDevice(),
		"is_read_only":   readOnly,
	}
	if keep {
		d["cache_type"] = "Writeback" // what the guest has synced is on the disk
	}
	addLimiter(d, "rate_limiter", rt.DiskLimit)
	return d
}

func addLimiter(to map[string]any, key string, l *RateLimiter) {
	if l == nil {
		return
	}
	limiter := map[string]any{}
	for name, b := range map[string]*TokenBucket{"bandwidth": l.Bandwidth, "ops": l.Ops} {
		if b == nil {
			continue
		}
		bucket := map[string]any{"size": b.Size, "refill_time": b.RefillTime}
		if b.OneTimeBurst > 0 {
			bucket["one_time_burst"] = b.OneTimeBurst
		}
		limiter[name] = bucket
	}
	to[key] = limiter
}

// idKeys are the lists that are merged by id; every other list is replaced.
var idKeys = map[string]string{"drives": "drive_id", "network-interfaces": "iface_id"}

// whole are the objects that one side sets as a whole: a token bucket half
// from the tenant would let it add a burst to the host's limit.
var whole = map[string]bool{"bandwidth": true, "ops": true}

// merge lays over onto base and changes neither. Lists merged by id keep
// over's order.
func merge(base, over map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for key, value := range over {
		switch value := value.(type) {
		case map[string]any:
			if below, ok := out[key].(map[string]any); ok && !whole[key] {
				out[key] = merge(below, value)
				continue
			}
		case []any:
			if id := idKeys[key]; id != "" {
				out[key] = mergeByID(out[key], value, id)
				continue
			}
		}
		out[key] = value
	}
	return out
}

func mergeByID(base any, over []any, id string) []any {
	below, _ := base.([]any)
	out := make([]any, len(over))
	for i, item := range over {
		out[i] = item
		item := item.(map[string]any) // the run's own lists hold objects
		for _, b := range below {
			if b, ok := b.(map[string]any); ok && b[id] == item[id] {
				out[i] = merge(b, item)
			}
		}
	}
	return out
}
