package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
)

// ErrChanged is in the chain of an error about artifacts that are not what
// their manifest says.
var ErrChanged = errors.New("artifacts changed since the build")

// VerifyMode says how thoroughly Verify looks.
type VerifyMode int

const (
	// VerifyFull hashes every byte.
	VerifyFull VerifyMode = iota
	// VerifyQuick takes an unchanged inode, size, mtime and ctime since the
	// last full check for the same content.
	VerifyQuick
)

// Verify says whether the image that m names holds the artifacts that were
// built. The error names what differs.
func Verify(m Manifest, imagesDir string, mode VerifyMode) error {
	if err := checkNames(m); err != nil {
		return fmt.Errorf("cannot verify image: %w", err)
	}
	dir := filepath.Join(imagesDir, m.Image)
	stamps := readStamps(dir)
	fresh := stampFile{}
	for _, a := range m.Artifacts {
		path := filepath.Join(dir, a.Name)
		if mode == VerifyQuick && stamps.vouchesFor(path, a) {
			continue
		}
		s, err := hashArtifact(path)
		if err != nil {
			return changed(m, fmt.Sprintf("cannot read %s", a.Name), err)
		}
		if s.SHA256 != a.SHA256 {
			return changed(m, fmt.Sprintf("%s has sha256 %s, the manifest says %s", a.Name, s.SHA256, a.SHA256), nil)
		}
		fresh[a.Name] = s
	}
	if len(fresh) == 0 {
		return nil
	}
	for name, s := range stamps {
		if _, ok := fresh[name]; !ok {
			fresh[name] = s
		}
	}
	// Stamps only save work: where they cannot be written, the next
	// verification hashes again.
	_ = fresh.write(dir)
	return nil
}

func changed(m Manifest, what string, err error) error {
	e := &Error{Kind: ErrChanged, Msg: fmt.Sprintf("image %s is damaged: %s", short(m.Image), what), Err: err,
		Hint: "build again"}
	return e
}

func short(hash string) string { return hash[:min(12, len(hash))] }

// checkNames keeps a manifest that was tampered with from leading elsewhere.
func checkNames(m Manifest) error {
	if len(m.Image) != 2*sha256.Size || strings.Trim(m.Image, "0123456789abcdef") != "" {
		return changed(m, fmt.Sprintf("%q is no image hash", m.Image), nil)
	}
	if m.Image != imageHash(m.Artifacts) {
		return changed(m, "its name does not follow from its artifacts", nil)
	}
	for _, a := range m.Artifacts {
		switch a.Name {
		case Kernel, Rootfs, Initrd, BaseConfig:
		default:
			return changed(m, fmt.Sprintf("%q is no artifact", a.Name), nil)
		}
	}
	return nil
}

// imageHash names an image by its artifacts: the sha256 over one line
// "<sha256>  <name>" each, in the order kernel, rootfs.ext4, initrd,
// fc-base.json, which is what `sha256sum` prints.
func imageHash(artifacts []Artifact) string {
	h := sha256.New()
	for _, name := range []string{Kernel, Rootfs, Initrd, BaseConfig} {
		for _, a := range artifacts {
			if a.Name == name {
				fmt.Fprintf(h, "%s  %s\n", a.SHA256, a.Name)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// stampName is the file beside the artifacts that remembers the last full
// check of each.
const stampName = "verified.json"

// stamp is what a file was like while its content had the hash.
type stamp struct {
	SHA256 string    `json:"sha256"`
	Size   int64     `json:"size"`
	Dev    uint64    `json:"dev"`
	Inode  uint64    `json:"inode"`
	MTime  time.Time `json:"mtime"`
	CTime  time.Time `json:"ctime"`
	// Checked is when the reading began.
	Checked time.Time `json:"checked"`
}

// clockGrain is how coarse a file system's clock may be: a change so shortly
// before the check could be followed by one with the same time.
const clockGrain = 50 * time.Millisecond

func stampOf(info fs.FileInfo) stamp {
	s := stamp{Size: info.Size(), MTime: info.ModTime().UTC()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Dev, s.Inode = st.Dev, st.Ino
		s.CTime = time.Unix(st.Ctim.Unix()).UTC()
	}
	return s
}

func (s stamp) sameFile(o stamp) bool {
	return s.Dev == o.Dev && s.Inode == o.Inode && s.Size == o.Size && s.MTime.Equal(o.MTime) && s.CTime.Equal(o.CTime)
}

type stampFile map[string]stamp

func readStamps(dir string) stampFile {
	data, err := readBounded(filepath.Join(dir, stampName), 1<<16)
	if err != nil {
		return nil
	}
	var s stampFile
	if json.Unmarshal(data, &s) != nil {
		return nil
	}
	return s
}

func (s stampFile) write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, stampName), append(data, '\n'), 0o644)
}

func (s stampFile) vouchesFor(path string, a Artifact) bool {
	known, ok := s[a.Name]
	if !ok || known.SHA256 != a.SHA256 || known.Size != a.Size {
		return false
	}
	if known.CTime.After(known.Checked.Add(-clockGrain)) {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && known.sameFile(stampOf(info))
}

// hashArtifact hashes a file that does not change meanwhile.
func hashArtifact(path string) (stamp, error) {
	f, err := openRegularAt(path)
	if err != nil {
		return stamp{}, err
	}
	defer f.Close()
	return hashOpen(f)
}

func hashOpen(f *os.File) (stamp, error) {
	checked := time.Now()
	before, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(f, 0, before.Size()), make([]byte, 1<<20)); err != nil {
		return stamp{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	s := stampOf(after)
	if !s.sameFile(stampOf(before)) {
		return stamp{}, fmt.Errorf("%s changed while it was read", filepath.Base(f.Name()))
	}
	s.SHA256, s.Checked = hex.EncodeToString(h.Sum(nil)), checked
	return s, nil
}
