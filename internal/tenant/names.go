package tenant

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
)

// MaxTapName is the longest name that Linux gives an interface (IFNAMSIZ-1).
const MaxTapName = 15

// CheckID says why id is no tenant id. Ids are DNS labels (RFC 1123), so that
// they serve as host names, file names and interface names as they are.
func CheckID(id string) error {
	switch {
	case id == "":
		return &InputError{Msg: "the tenant id is empty", Hint: idHint}
	case len(id) > 63:
		return &InputError{Msg: fmt.Sprintf("the tenant id has %d characters, 63 are allowed", len(id)), Hint: idHint}
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
	return "tap_" + digest("tap", scope, id)[:11]
}

// MAC is the guest's address: locally administered, from a hash of the id.
func MAC(scope, id string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("mvm/mac\x00" + scope + "\x00" + id))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// MachineID is the guest's machine-id(5): 32 lower-case hexadecimal digits.
func MachineID(scope, id string) string { return digest("machine-id", scope, id)[:32] }

// ShortHash names what must be short for the tenant, such as the folder of
// its sockets.
func ShortHash(id string) string { return digest("id", "", id)[:12] }

func digest(use, scope, id string) string {
	sum := sha256.Sum256([]byte("mvm/" + use + "\x00" + scope + "\x00" + id))
	return hex.EncodeToString(sum[:])
}
