package tenant

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxVolumes is how many volumes a guest may have beside its data.
	MaxVolumes = 8
	// MaxFolderMiB is the most that a folder of the host may hold to be copied
	// into a volume: 16 GiB.
	MaxFolderMiB = 16 << 10

	// DataMount is where a guest mounts its data volume.
	DataMount = "/data"

	maxMountBytes = 64 // all words together must fit a kernel command line
)

// Volume is one more disk of a guest, beside its data.
type Volume struct {
	Mount   string `json:"mount"`             // where the guest mounts it, such as /srv/web
	SizeMiB int    `json:"size_mib,omitzero"` // of one that is kept from run to run
	Folder  string `json:"folder,omitzero"`   // of the host, copied in at each start; what the guest changes there is lost
}

// String is the volume as ParseVolume reads it.
func (v Volume) String() string {
	switch {
	case v.Folder != "":
		return v.Folder + ":" + v.Mount
	case v.none():
		return "none:" + v.Mount
	case v.SizeMiB%1024 == 0:
		return fmt.Sprintf("%dG:%s", v.SizeMiB/1024, v.Mount)
	}
	return fmt.Sprintf("%dM:%s", v.SizeMiB, v.Mount)
}

// Volumes are those of a spec, in the order of their devices in the guest: vdd,
// vde and so on.
type Volumes []Volume

// String is all volumes as a person gives them.
func (v Volumes) String() string {
	if len(v) == 0 {
		return "none"
	}
	words := make([]string, len(v))
	for i, one := range v {
		words[i] = one.String()
	}
	return strings.Join(words, " ")
}

// At is the volume that is mounted there.
func (v Volumes) At(mount string) (Volume, bool) {
	i := v.index(mount)
	if i < 0 {
		return Volume{}, false
	}
	return v[i], true
}

// Kept is the place, from 0 on, of the volume that is mounted there and kept
// from run to run; -1 where there is none.
func (v Volumes) Kept(mount string) int {
	return slices.IndexFunc(v, func(one Volume) bool { return one.Mount == mount && one.Folder == "" })
}

// Grown is v with the larger sizes that volumes of to have at the same places,
// where both are kept from run to run.
func (v Volumes) Grown(to Volumes) Volumes {
	grown := slices.Clone(v)
	for i, one := range grown {
		if at := to.Kept(one.Mount); at >= 0 && one.Folder == "" {
			grown[i].SizeMiB = max(one.SizeMiB, to[at].SizeMiB)
		}
	}
	return grown
}

func (v Volumes) index(mount string) int {
	return slices.IndexFunc(v, func(one Volume) bool { return one.Mount == mount })
}

var (
	sizePattern = regexp.MustCompile(`^([0-9]{1,9})([MG])$`)
	sizeLike    = regexp.MustCompile(`^[0-9]+ ?(?i:[kmgtp]i?b?)$`)
)

const volumeHint = "use <size>:<mount> such as 20G:/work, <folder>:<mount> such as ./src:/src, or none:<mount>"

var sizeHint = fmt.Sprintf("a volume has %dM to %dG", MinDataMiB, MaxDataMiB>>10)

// ParseVolume reads <size>:<mount>, the size as 512M or 20G, <folder>:<mount>,
// or none:<mount>, which is a volume of neither. A folder that is named
// like a size, or none, is told apart by its path, as ./20G.
func ParseVolume(s string) (Volume, error) {
	i := strings.LastIndexByte(s, ':') // a folder's name may have one, too
	if i <= 0 {
		return Volume{}, &InputError{Msg: fmt.Sprintf("%q is no volume", s), Hint: volumeHint}
	}
	what, v := s[:i], Volume{Mount: s[i+1:]}
	size := sizePattern.FindStringSubmatch(what)
	switch {
	case v.Mount == DataMount && size == nil:
		return Volume{}, &InputError{Msg: DataMount + " is the data volume's, which has a size", Hint: "use <size>:/data, or mount the folder at another place"}
	case v.Mount != DataMount:
		if err := v.checkMount(); err != nil {
			return Volume{}, err
		}
	}
	switch {
	case what == "none":
		return v, nil
	case size == nil && sizeLike.MatchString(what):
		return Volume{}, &InputError{Msg: fmt.Sprintf("%q is no size of a volume", what), Hint: sizeHint + "; a folder of that name is ./" + what}
	case size == nil:
		v.Folder = what
		return v, nil
	}
	n, err := strconv.Atoi(size[1])
	if size[2] == "G" {
		n *= 1024
	}
	if err != nil || n < MinDataMiB || n > MaxDataMiB {
		return Volume{}, &InputError{Msg: fmt.Sprintf("%q is no size of a volume", what), Hint: sizeHint}
	}
	v.SizeMiB = n
	return v, nil
}

// ChangeVolumes puts each volume of changes in the place of the one with the
// same mount, or behind all others; one of neither size nor folder takes it
// away. A size at /data is the data volume's.
func (s *Spec) ChangeVolumes(changes []Volume) {
	volumes := slices.Clone(s.Volumes)
	for _, v := range changes {
		i := volumes.index(v.Mount)
		switch {
		case v.Mount == DataMount:
			s.DataMiB = v.SizeMiB
		case v.none() && i >= 0:
			volumes = slices.Delete(volumes, i, i+1)
		case v.none():
		case i >= 0:
			volumes[i] = v
		default:
			volumes = append(volumes, v)
		}
	}
	if len(volumes) == 0 {
		volumes = nil
	}
	s.Volumes = volumes
}

// Beside says whether this is a volume beside the data, and not its size or the
// end of one.
func (v Volume) Beside() bool { return v.Mount != DataMount && !v.none() }

func (v Volume) none() bool { return v.SizeMiB == 0 && v.Folder == "" }

var mountPattern = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$`)

// systemFolders are the guest's own, or mvm's: nothing is mounted there or
// below.
var systemFolders = []string{"bin", "boot", "data", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "nix", "proc", "run", "sbin", "sys", "tmp", "usr"}

// CheckMount refuses what is no place to mount a volume.
func CheckMount(mount string) error { return Volume{Mount: mount}.checkMount() }

func (v Volume) checkMount() error {
	first, _, deeper := strings.Cut(strings.TrimPrefix(v.Mount, "/"), "/")
	switch {
	case !mountPattern.MatchString(v.Mount) || path.Clean(v.Mount) != v.Mount || len(v.Mount) > maxMountBytes:
		return &InputError{
			Msg:  fmt.Sprintf("%q is no place to mount a volume", v.Mount),
			Hint: fmt.Sprintf("an absolute path of letters, digits, '.', '_' and '-', of %d characters at most, such as /srv/web", maxMountBytes),
		}
	case slices.Contains(systemFolders, first) || first == "var" && !deeper:
		return &InputError{Msg: fmt.Sprintf("%s belongs to the guest's system", v.Mount), Hint: "mount the volume at a place of its own, such as /work or /srv/web"}
	}
	return nil
}

func (v Volume) validate() error {
	if err := v.checkMount(); err != nil {
		return err
	}
	if v.Folder == "" {
		return checkRange("MiB of volume "+v.Mount, "--volume", v.SizeMiB, MinDataMiB, MaxDataMiB)
	}
	if v.SizeMiB != 0 {
		return &InputError{Msg: fmt.Sprintf("volume %s has a size and a folder", v.Mount), Hint: volumeHint}
	}
	if strings.ContainsAny(v.Folder, "\x00\n\r") {
		return &InputError{Msg: fmt.Sprintf("%q is no folder", v.Folder), Hint: volumeHint}
	}
	return nil
}

func (v Volumes) validate() error {
	if len(v) > MaxVolumes {
		return &InputError{Msg: fmt.Sprintf("%d volumes are too many", len(v)), Hint: fmt.Sprintf("a guest takes %d beside its data", MaxVolumes)}
	}
	for i, one := range v {
		if err := one.validate(); err != nil {
			return err
		}
		for _, other := range v[:i] {
			if strings.HasPrefix(one.Mount+"/", other.Mount+"/") || strings.HasPrefix(other.Mount+"/", one.Mount+"/") {
				return &InputError{Msg: fmt.Sprintf("the volumes %s and %s lie in one another", other.Mount, one.Mount), Hint: "mount them side by side"}
			}
		}
	}
	return nil
}

// FileName is what the volume's image is called: another for every mount.
func (v Volume) FileName() string {
	return strings.ReplaceAll(strings.TrimPrefix(v.Mount, "/"), "/", "+") + ".ext4"
}

// MountOf is where the volume belongs whose image is called so.
func MountOf(fileName string) (mount string, ok bool) {
	name, ok := strings.CutSuffix(fileName, ".ext4")
	mount = "/" + strings.ReplaceAll(name, "+", "/")
	return mount, ok && (mount == DataMount || CheckMount(mount) == nil)
}

// DiskBytes is what the volumes that are kept may take of the host's disk, the
// data among them.
func (s *Spec) DiskBytes() int64 {
	mib := s.DataMiB
	for _, v := range s.Volumes {
		mib += v.SizeMiB
	}
	return int64(mib) << 20
}
