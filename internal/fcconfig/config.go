// Package fcconfig turns a flake's base configuration and the values of one
// run into the final Firecracker configuration (fc.final.json).
//
// It owns the model of what Firecracker 1.17 accepts, what a base
// configuration may say, and how the two are merged. Base configurations come
// from tenants and are hostile input. The package is pure: it opens no file
// and knows nothing of the host, of processes or of what starts the machine.
package fcconfig

import (
	"encoding/json"
	"fmt"
)

// ModelVersion is the Firecracker release that the model describes.
var ModelVersion = Version{1, 17, 0}

// Config is a complete Firecracker configuration. It is made by Final or
// Decode and not changed afterwards.
type Config struct {
	BootSource        BootSource         `json:"boot-source"`
	Drives            []Drive            `json:"drives"`
	Machine           MachineConfig      `json:"machine-config"`
	CPU               *CPUConfig         `json:"cpu-config"`
	NetworkInterfaces []NetworkInterface `json:"network-interfaces"`
	Vsock             *Vsock             `json:"vsock"`
	Balloon           *Balloon           `json:"balloon"`
	Entropy           *Entropy           `json:"entropy"`
	Pmem              []Pmem             `json:"pmem"`
	MemoryHotplug     *MemoryHotplug     `json:"memory-hotplug"`
	MMDS              *MMDS              `json:"mmds-config"`
	Logger            *Logger            `json:"logger"`
	Metrics           *Metrics           `json:"metrics"`

	// MinVersion is the oldest Firecracker that the configuration is for: the
	// one that the base configuration declared, or the first that has all of
	// its fields. Zero is any.
	MinVersion Version `json:"-"`
	// Unmodelled are the JSON paths of the fields that only a newer
	// Firecracker than the model's knows.
	Unmodelled []string `json:"-"`

	doc map[string]any
}

// JSON is the file as Firecracker reads it: keys sorted, ending in a newline.
func (c Config) JSON() []byte {
	data, err := json.MarshalIndent(c.doc, "", "  ")
	if err != nil { // only strings, numbers, booleans, lists and objects get in
		panic(fmt.Sprintf("fcconfig: a checked document does not encode: %v", err))
	}
	return append(data, '\n')
}

// BootSource is what is booted.
type BootSource struct {
	KernelImagePath string `json:"kernel_image_path"`
	InitrdPath      string `json:"initrd_path"`
	BootArgs        string `json:"boot_args"`
}

// Drive is a block device, backed by a file or by a vhost-user socket.
type Drive struct {
	DriveID      string       `json:"drive_id"`
	IsRootDevice bool         `json:"is_root_device"`
	PathOnHost   string       `json:"path_on_host"`
	Socket       string       `json:"socket"`
	IsReadOnly   bool         `json:"is_read_only"`
	PartUUID     string       `json:"partuuid"`
	CacheType    string       `json:"cache_type"` // Unsafe (also when empty) or Writeback
	IOEngine     string       `json:"io_engine"`  // Sync (also when empty) or Async
	RateLimiter  *RateLimiter `json:"rate_limiter"`
	Discard      bool         `json:"discard"`  // what the guest trims is given back to the host
	BlkSize      int          `json:"blk_size"` // bytes; 0 is 512
	Topology     *Topology    `json:"topology"`
}

// Topology is what a disk tells the guest of itself, in blocks of BlkSize.
type Topology struct {
	PhysicalBlockExp int    `json:"physical_block_exp"`
	AlignmentOffset  int    `json:"alignment_offset"`
	MinIOSize        int    `json:"min_io_size"`
	OptIOSize        uint32 `json:"opt_io_size"`
}

// RateLimiter bounds bytes and operations apart from each other.
type RateLimiter struct {
	Bandwidth *TokenBucket `json:"bandwidth"`
	Ops       *TokenBucket `json:"ops"`
}

// TokenBucket holds Size tokens and is refilled within RefillTime
// milliseconds. OneTimeBurst tokens come on top once, at the start.
type TokenBucket struct {
	Size         uint64 `json:"size"`
	RefillTime   uint64 `json:"refill_time"`
	OneTimeBurst uint64 `json:"one_time_burst"`
}

// MachineConfig is the size and kind of the machine.
type MachineConfig struct {
	VCPUCount       int    `json:"vcpu_count"`
	MemSizeMiB      int    `json:"mem_size_mib"`
	SMT             bool   `json:"smt"`
	CPUTemplate     string `json:"cpu_template"`
	TrackDirtyPages bool   `json:"track_dirty_pages"`
	HugePages       string `json:"huge_pages"` // None (also when empty), Transparent or 2M
}

// CPUConfig is a custom CPU template: Path names one, or it is given inline.
type CPUConfig struct {
	Path     string          `json:"-"`
	Template json.RawMessage `json:"-"`
}

// UnmarshalJSON takes a path or an inline template, as Firecracker does.
func (c *CPUConfig) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &c.Path)
	}
	c.Template = append(json.RawMessage(nil), data...)
	return nil
}

// NetworkInterface is a network device on a TAP of the host.
type NetworkInterface struct {
	IfaceID       string       `json:"iface_id"`
	HostDevName   string       `json:"host_dev_name"`
	GuestMAC      string       `json:"guest_mac"`
	MTU           int          `json:"mtu"`
	RxRateLimiter *RateLimiter `json:"rx_rate_limiter"`
	TxRateLimiter *RateLimiter `json:"tx_rate_limiter"`
}

// Vsock is a socket device between guest and host.
type Vsock struct {
	GuestCID uint32 `json:"guest_cid"`
	UDSPath  string `json:"uds_path"`
	VsockID  string `json:"vsock_id"`
}

// Balloon is a memory balloon.
type Balloon struct {
	AmountMiB             int  `json:"amount_mib"`
	DeflateOnOOM          bool `json:"deflate_on_oom"`
	StatsPollingIntervalS int  `json:"stats_polling_interval_s"`
	FreePageReporting     bool `json:"free_page_reporting"`
	FreePageHinting       bool `json:"free_page_hinting"`
}

// Entropy is a random number device.
type Entropy struct {
	RateLimiter *RateLimiter `json:"rate_limiter"`
}

// Pmem is a persistent-memory device.
type Pmem struct {
	ID          string       `json:"id"`
	PathOnHost  string       `json:"path_on_host"`
	RootDevice  bool         `json:"root_device"`
	ReadOnly    bool         `json:"read_only"`
	RateLimiter *RateLimiter `json:"rate_limiter"`
}

// MemoryHotplug is memory that can be added to a running machine.
type MemoryHotplug struct {
	TotalSizeMiB int `json:"total_size_mib"`
	BlockSizeMiB int `json:"block_size_mib"`
	SlotSizeMiB  int `json:"slot_size_mib"`
}

// MMDS is Firecracker's metadata service.
type MMDS struct {
	NetworkInterfaces []string `json:"network_interfaces"`
	Version           string   `json:"version"`
	IPv4Address       string   `json:"ipv4_address"`
	IMDSCompat        bool     `json:"imds_compat"`
}

// Logger is where Firecracker's own log goes.
type Logger struct {
	LogPath       string `json:"log_path"`
	Level         string `json:"level"`
	ShowLevel     bool   `json:"show_level"`
	ShowLogOrigin bool   `json:"show_log_origin"`
	Module        string `json:"module"`
}

// Metrics is where Firecracker's metrics go.
type Metrics struct {
	MetricsPath string            `json:"metrics_path"`
	EmitID      bool              `json:"emit_id"`
	Properties  map[string]string `json:"properties"`
}
