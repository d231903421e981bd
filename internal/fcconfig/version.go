package fcconfig

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// Version is a Firecracker version. The zero value stands for none.
type Version [3]int

var versionPattern = regexp.MustCompile(`^v?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:-[0-9A-Za-z.-]{1,64})?$`)

// ParseVersion reads 1.16, 1.16.1, v1.16.1 or 1.17.0-dev.
func ParseVersion(s string) (Version, error) {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%q is no version", s)
	}
	var v Version
	for i := range v {
		if m[i+1] != "" {
			v[i], _ = strconv.Atoi(m[i+1]) // the pattern lets only short numbers pass
		}
	}
	return v, nil
}

// Less says whether v is older than o.
func (v Version) Less(o Version) bool { return slices.Compare(v[:], o[:]) < 0 }

// beyondModel says whether v may have fields that the model does not know:
// those come with minor releases.
func (v Version) beyondModel() bool { return slices.Compare(v[:2], ModelVersion[:2]) > 0 }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }
