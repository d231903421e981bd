package tenant

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"net"
	"strings"
)

// MaxTapName is the longest name that Linux gives an interface (IFNAMSIZ-1).
const MaxTapName = 15

// MaxID is how many characters a tenant id can have.
const MaxID = 63

// CheckID says why id is no tenant id. Ids are DNS labels (RFC 1123), so that
// they serve as host names, file names and interface names as they are.
func CheckID(id string) error {
	switch {
	case id == "":
		return &InputError{Msg: "the tenant id is empty", Hint: idHint}
	case len(id) > MaxID:
		return &InputError{Msg: fmt.Sprintf("the tenant id has %d characters, %d are allowed", len(id), MaxID), Hint: idHint}
	case !isLabel(id):
		return &InputError{Msg: fmt.Sprintf("%q is no tenant id", id), Hint: idHint}
	}
	return nil
}

// isLabel is [a-z0-9]([a-z0-9-]*[a-z0-9])?, for lists of very many ids.
func isLabel(id string) bool {
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return !strings.HasPrefix(id, "-") && !strings.HasSuffix(id, "-")
}

// NewInstance is what tells one life of a tenant from another: 16 random
// hexadecimal digits.
func NewInstance() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

const idHint = "use 1 to 63 lower-case letters, digits and inner dashes, such as acme or team-7"

// TapName names the tenant's TAP device: tap-<id> where that fits, otherwise
// tap_<hash>, which no id can produce because ids hold no underscore. A root
// other than the default one has a scope; its TAPs are always hashed, so that
// two roots on one host never share a name.
func TapName(scope, id string) string {
	if name := "tap-" + id; scope == "" && len(name) <= MaxTapName {
		return name
	}
	return "tap_" + hashTap(scope, id).digits(tapDigits)
}

// MAC is the guest's address: locally administered, from a hash of the id.
func MAC(scope, id string) net.HardwareAddr {
	sum := hashMAC(scope, id)
	return append(net.HardwareAddr{0x02}, sum[:macDigits/2]...)
}

// MachineID is the guest's machine-id(5): 32 lower-case hexadecimal digits.
func MachineID(scope, id string) string { return hash("machine-id", scope, id).digits(32) }

// ShortHash names what must be short for the tenant, such as the folder of
// its sockets.
func ShortHash(id string) string { return hashShort(id).digits(shortDigits) }

// How many hexadecimal digits of a hash are in a name.
const (
	tapDigits   = 11
	macDigits   = 10
	shortDigits = 12
)

func hashTap(scope, id string) sum { return hash("tap", scope, id) }
func hashMAC(scope, id string) sum { return hash("mac", scope, id) }
func hashShort(id string) sum      { return hash("id", "", id) }

// Clash returns one of the other ids that has a derived name in common with id,
// or would have, were both TAPs hashed; there should never be one. It takes
// neither memory nor long, since who creates a tenant looks at all others.
func Clash(scope, id string, others iter.Seq[string]) (other string, clash bool) {
	type names struct{ tap, mac, short uint64 }
	of := func(id string) names {
		return names{hashTap(scope, id).number(tapDigits), hashMAC(scope, id).number(macDigits), hashShort(id).number(shortDigits)}
	}
	mine := of(id)
	for other := range others {
		if its := of(other); other != id && (its.tap == mine.tap || its.mac == mine.mac || its.short == mine.short) {
			return other, true
		}
	}
	return "", false
}

type sum [sha256.Size]byte

func hash(use, scope, id string) sum {
	text := append(make([]byte, 0, 128), "mvm/"...) // on the stack
	text = append(append(text, use...), 0)
	text = append(append(text, scope...), 0)
	return sha256.Sum256(append(text, id...))
}

// digits are the first n hexadecimal ones.
func (s sum) digits(n int) string { return hex.EncodeToString(s[:])[:n] }

// number is the same digits as one number.
func (s sum) number(n int) uint64 { return binary.BigEndian.Uint64(s[:8]) >> (64 - 4*n) }
