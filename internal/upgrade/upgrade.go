// Package upgrade replaces this program by a newer release.
//
// A release is a folder on a web server with the programs, release.json, which
// names its version and each file's size and sha256, and release.json.sig, an
// ed25519 signature of that file in base64. Nothing that is not signed by the
// key built into this program is believed, and nothing older is installed.
package upgrade

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/flock"
)

// DefaultURL is where releases are.
const DefaultURL = "https://github.com/auser/mvm/releases/latest/download"

// What an upgrade fails of, for errors.Is.
var (
	ErrOffline   = errors.New("the releases cannot be reached from here")
	ErrNoRelease = errors.New("this build is no release")
	ErrBusy      = errors.New("another upgrade of this program is under way")
	ErrUnsigned  = errors.New("the signature is not that of this program's releases")
)

// Source is where releases come from and who signs them.
type Source struct {
	URL    string
	Key    string // an ed25519 public key in base64; empty: this build is no release
	Client *http.Client
}

// File is one file of a release.
type File struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Release is release.json.
type Release struct {
	Version string          `json:"version"`
	Files   map[string]File `json:"files"`
}

// maxManifest bounds what is read before anything is verified.
const maxManifest = 1 << 20

// Latest fetches and verifies the newest release's description.
func (s Source) Latest(ctx context.Context) (Release, error) {
	key, err := base64.StdEncoding.DecodeString(s.Key)
	if s.Key == "" || err != nil || len(key) != ed25519.PublicKeySize {
		return Release{}, fmt.Errorf("cannot look for a newer release: %w: it holds no key to verify one with", ErrNoRelease)
	}
	manifest, err := s.read(ctx, "release.json")
	if err != nil {
		return Release{}, err
	}
	text, err := s.read(ctx, "release.json.sig")
	if err != nil {
		return Release{}, err
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || !ed25519.Verify(key, manifest, signature) {
		return Release{}, fmt.Errorf("cannot use the release at %s: %w", s.URL, ErrUnsigned)
	}
	var r Release
	if err := json.Unmarshal(manifest, &r); err != nil {
		return Release{}, fmt.Errorf("cannot use the release at %s: %w", s.URL, err)
	}
	if _, err := parse(r.Version); err != nil {
		return Release{}, fmt.Errorf("cannot use the release at %s: %w", s.URL, err)
	}
	return r, nil
}

func (s Source) read(ctx context.Context, name string) ([]byte, error) {
	body, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", name, err)
	}
	return data, nil
}

func (s Source) open(ctx context.Context, name string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(s.URL, "/")+"/"+name, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", name, err)
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		var dial *net.OpError
		var lookup *net.DNSError
		if errors.As(err, &lookup) || errors.As(err, &dial) && dial.Op == "dial" {
			return nil, fmt.Errorf("%w: %w", ErrOffline, err)
		}
		return nil, fmt.Errorf("cannot fetch %s: %w", name, err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("cannot fetch %s: the server says %s", req.URL, resp.Status)
	}
	return resp.Body, nil
}

// Newer says whether version b follows a.
func Newer(a, b string) (bool, error) {
	va, err := parse(a)
	if err != nil {
		return false, fmt.Errorf("%w: its version is %q", ErrNoRelease, a)
	}
	vb, err := parse(b)
	return semver.Compare(va, vb) < 0, err
}

// parse reads 1.2.3. Pre-releases are not offered to anybody.
func parse(version string) (string, error) {
	v := "v" + strings.TrimPrefix(version, "v")
	if semver.Canonical(v) != v || semver.Prerelease(v) != "" {
		return "", fmt.Errorf("%q is no version", version)
	}
	return v, nil
}

// Target is a file of an installation and its name in a release.
type Target struct{ Name, Path string }

// Install fetches the targets' files of the release and puts each in its
// place. All are there and verified before the first is replaced, each is
// replaced in one step, and in the targets' order. An upgrade that was killed
// goes on where it is run again.
func (s Source) Install(ctx context.Context, r Release, targets []Target) (err error) {
	if len(targets) == 0 {
		return nil
	}
	unlock, err := lock(filepath.Dir(targets[len(targets)-1].Path))
	if err != nil {
		return err
	}
	defer unlock()
	var fetched []string
	defer func() {
		for _, tmp := range fetched {
			err = errors.Join(err, ignoreMissing(os.Remove(tmp)))
		}
	}()
	for _, t := range targets {
		if err := sweep(filepath.Dir(t.Path), fetched); err != nil {
			return err
		}
		tmp, err := s.fetch(ctx, r, t.Name, filepath.Dir(t.Path))
		if tmp != "" {
			fetched = append(fetched, tmp)
		}
		if err != nil {
			return err
		}
	}
	for i, t := range targets {
		if err := os.Rename(fetched[i], t.Path); err != nil {
			return fmt.Errorf("cannot replace %s: %w", t.Path, err)
		}
		if err := atomicfile.SyncDir(filepath.Dir(t.Path)); err != nil {
			return fmt.Errorf("cannot replace %s: %w", t.Path, err)
		}
		crash.Point("upgrade/" + t.Name)
	}
	return nil
}

// lock keeps a second upgrade out until this one has ended, killed or not.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the program's folder: %w", err)
	}
	if err := flock.Lock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// fetching is how the names of files begin that wait to replace another.
const fetching = ".mvm-upgrade-"

// sweep removes what an upgrade that was killed has left in dir.
func sweep(dir string, keep []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot look for what an upgrade has left: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !strings.HasPrefix(e.Name(), fetching) || slices.Contains(keep, path) {
			continue
		}
		if err := ignoreMissing(os.Remove(path)); err != nil {
			return fmt.Errorf("cannot remove what an upgrade has left: %w", err)
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// fetch puts a verified file of the release beside the one it will replace.
func (s Source) fetch(ctx context.Context, r Release, name, dir string) (tmp string, err error) {
	want, ok := r.Files[name]
	if !ok {
		return "", fmt.Errorf("release %s has no %s", r.Version, name)
	}
	body, err := s.open(ctx, name)
	if err != nil {
		return "", err
	}
	defer body.Close()
	f, err := os.CreateTemp(dir, fetching+"*")
	if err != nil {
		return "", fmt.Errorf("cannot write beside the program: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), io.LimitReader(body, want.Size+1))
	if err != nil {
		return f.Name(), fmt.Errorf("cannot fetch %s: %w", name, err)
	}
	if n != want.Size || hex.EncodeToString(hash.Sum(nil)) != want.SHA256 {
		return f.Name(), fmt.Errorf("%s is not what release %s names: its checksum differs", name, r.Version)
	}
	if err := errors.Join(f.Chmod(0o755), f.Sync()); err != nil {
		return f.Name(), fmt.Errorf("cannot write %s: %w", name, err)
	}
	return f.Name(), nil
}

// Targets are the files of this installation: the Linux builds beside the
// program, and last the program itself, whose version says whether the whole
// upgrade is done.
func Targets(self, goos, goarch string) ([]Target, error) {
	self, err := filepath.EvalSymlinks(self)
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	var targets []Target
	dir := filepath.Dir(self)
	for _, name := range []string{"mvm-linux-amd64", "mvm-linux-arm64"} {
		for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, "..", "libexec", "mvm", name)} {
			_, err := os.Stat(path)
			if err == nil && path != self {
				targets = append(targets, Target{name, path})
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("cannot find the Linux builds beside the program: %w", err)
			}
		}
	}
	return append(targets, Target{"mvm-" + goos + "-" + goarch, self}), nil
}
