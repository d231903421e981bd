// Package ipam keeps the tenants' addresses.
//
// It owns the meaning of leases.json: which tenant has which address of the
// pool. It is plain data: the caller holds the host's lock around load, change
// and write, and writes the bytes itself, atomically.
package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// First is the offset of the first tenant's address in the subnet. The
// gateway is at offset 1; those in between are mvm's own, such as probe ports.
const First = 10

// Version is the version of leases.json that this program writes.
const Version = 1

// ErrFull says that every address of the pool is leased.
var ErrFull = errors.New("every address of the subnet is leased")

// DamagedError says that the registry cannot be read. It can be rebuilt from
// the tenants' states with Rebuild.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the address registry %s is damaged: %v", e.Path, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// SubnetChangedError says that the registry holds leases of another subnet
// than the configured one. Addresses belong to their tenants for life, so the
// subnet can only change while there are none.
type SubnetChangedError struct {
	Leased, Wanted netip.Prefix
	Tenants        int
}

func (e *SubnetChangedError) Error() string {
	return fmt.Sprintf("the subnet is %s for %d tenants and cannot become %s while they exist", e.Leased, e.Tenants, e.Wanted)
}

// Registry is who has which address. The zero value is of no use: see New,
// Load and Rebuild.
type Registry struct {
	subnet netip.Prefix // with the gateway's address, as in the configuration
	leases map[string]netip.Addr
	taken  []bool                    // by the address's Index
	extra  map[string]jsontext.Value // fields of a newer version
	schema int
}

// New returns a registry without leases. subnet is the gateway's address with
// the prefix length.
func New(subnet netip.Prefix) (*Registry, error) {
	return Rebuild(subnet, nil)
}

// CheckSubnet says why subnet, a gateway's address with its prefix length,
// cannot hold tenants.
func CheckSubnet(subnet netip.Prefix) error {
	switch {
	case !subnet.IsValid() || !subnet.Addr().Is4():
		return fmt.Errorf("%s is no IPv4 network", subnet)
	case subnet.Bits() < 16 || subnet.Bits() > 28 && subnet.Bits() != 30:
		return fmt.Errorf("the subnet %s is not between /16 and /28, nor /30 for a single guest", subnet)
	case subnet.Addr() != subnet.Masked().Addr().Next():
		return fmt.Errorf("the gateway %s is not the first address of its subnet (%s)", subnet.Addr(), subnet.Masked().Addr().Next())
	}
	return nil
}

// Load reads the registry at path. A missing file is an empty registry; a
// damaged one is a *DamagedError; leases of another subnet are a
// *SubnetChangedError.
func Load(path string, subnet netip.Prefix) (*Registry, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return New(subnet)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the address registry: %w", err)
	}
	r, err := parse(data, subnet)
	if changed := (*SubnetChangedError)(nil); errors.As(err, &changed) {
		return nil, err
	}
	if err != nil {
		return nil, &DamagedError{Path: path, Err: err}
	}
	return r, nil
}

// file is leases.json.
type file struct {
	Version *int                      `json:"schema_version"`
	Subnet  *netip.Prefix             `json:"subnet"`
	Leases  map[string]netip.Addr     `json:"leases"`
	Extra   map[string]jsontext.Value `json:",embed"`
}

func parse(data []byte, subnet netip.Prefix) (*Registry, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	switch {
	case f.Version == nil:
		return nil, errors.New(`there is no field "schema_version"`)
	case f.Subnet == nil:
		return nil, errors.New(`there is no field "subnet"`)
	case f.Leases == nil:
		return nil, errors.New(`there is no field "leases"`)
	case *f.Version < Version:
		return nil, fmt.Errorf("schema version %d is unknown", *f.Version)
	case *f.Version == Version && len(f.Extra) > 0:
		return nil, fmt.Errorf("unknown field %q", slices.Sorted(maps.Keys(f.Extra))[0])
	}
	if *f.Subnet != subnet && len(f.Leases) > 0 {
		return nil, &SubnetChangedError{Leased: *f.Subnet, Wanted: subnet, Tenants: len(f.Leases)}
	}
	r, err := Rebuild(subnet, f.Leases)
	if err != nil {
		return nil, err
	}
	r.extra, r.schema = f.Extra, *f.Version
	return r, nil
}

// Rebuild makes a registry of leases that are known from elsewhere, such as
// the tenants' states, and keeps the map. Two tenants with one address, or an
// address outside the pool, are an error: no tenant may lose or share an address
// silently.
func Rebuild(subnet netip.Prefix, leases map[string]netip.Addr) (*Registry, error) {
	if err := CheckSubnet(subnet); err != nil {
		return nil, err
	}
	if leases == nil {
		leases = map[string]netip.Addr{}
	}
	r := &Registry{subnet: subnet, leases: leases, taken: make([]bool, Size(subnet)), schema: Version}
	for id, addr := range leases {
		n, err := Index(subnet, addr)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", id, err)
		}
		if r.taken[n] {
			return nil, shared(leases, addr)
		}
		r.taken[n] = true
	}
	return r, nil
}

// shared names the tenants that have one address.
func shared(leases map[string]netip.Addr, addr netip.Addr) error {
	var ids []string
	for id, its := range leases {
		if its == addr {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return fmt.Errorf("tenants %s have %s", strings.Join(ids, " and "), addr)
}

// Bytes is what leases.json shall hold.
func (r *Registry) Bytes() ([]byte, error) {
	doc := map[string]any{"schema_version": r.schema, "subnet": r.subnet, "leases": r.leases}
	for name, value := range r.extra {
		doc[name] = value
	}
	data, err := json.Marshal(doc, json.Deterministic(true), jsontext.WithIndent("  "))
	return append(data, '\n'), err
}

// Lease returns the address of the tenant. One that has none gets the lowest
// free address; changed then says that the registry must be written.
func (r *Registry) Lease(id string) (addr netip.Addr, changed bool, err error) {
	if addr, ok := r.leases[id]; ok {
		return addr, false, nil
	}
	n := slices.Index(r.taken, false)
	if n < 0 {
		return netip.Addr{}, false, fmt.Errorf("%w (%s holds %d tenants)", ErrFull, r.subnet.Masked(), Size(r.subnet))
	}
	addr = offset(r.subnet, first(r.subnet)+n)
	r.leases[id], r.taken[n] = addr, true
	return addr, true, nil
}

// Release gives the tenant's address back. Call it when nothing on the host
// knows the address any more, since the next tenant may get it.
func (r *Registry) Release(id string) (changed bool) {
	addr, changed := r.leases[id]
	if n, err := Index(r.subnet, addr); err == nil {
		r.taken[n] = false
	}
	delete(r.leases, id)
	return changed
}

// IDs are the tenants that have an address.
func (r *Registry) IDs() iter.Seq[string] { return maps.Keys(r.leases) }

// Lookup returns the tenant's address, if it has one.
func (r *Registry) Lookup(id string) (addr netip.Addr, leased bool) {
	addr, leased = r.leases[id]
	return addr, leased
}

// Leases returns a copy of all leases.
func (r *Registry) Leases() map[string]netip.Addr { return maps.Clone(r.leases) }

// Size is how many tenants the subnet has room for.
func Size(subnet netip.Prefix) int { return 1<<(32-subnet.Bits()) - first(subnet) - 1 }

// first is First, or what follows the gateway in subnets that are too small
// for reserved addresses.
func first(subnet netip.Prefix) int {
	if subnet.Bits() > 28 {
		return 2
	}
	return First
}

// Index is the place of addr in the pool, 0 for the first.
func Index(subnet netip.Prefix, addr netip.Addr) (int, error) {
	if !addr.Is4() || !subnet.Contains(addr) {
		return 0, fmt.Errorf("%s is not in %s", addr, subnet.Masked())
	}
	n := number(addr) - number(subnet.Masked().Addr())
	if n < first(subnet) || n >= first(subnet)+Size(subnet) {
		return 0, fmt.Errorf("%s is not among the tenants' addresses of %s", addr, subnet.Masked())
	}
	return n - first(subnet), nil
}

// Reserved is the n-th of the addresses between gateway and pool, from 0.
func Reserved(subnet netip.Prefix, n int) netip.Addr { return offset(subnet, 2+n) }

func offset(subnet netip.Prefix, n int) netip.Addr {
	n += number(subnet.Masked().Addr())
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func number(a netip.Addr) int {
	b := a.As4()
	return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
}
