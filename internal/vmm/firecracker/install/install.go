// Package install puts a pinned release of Firecracker and its jailer onto
// this host.
//
// It owns the pins and makes sure that what is installed is what they name:
// another release, a damaged or a forged archive is refused, never taken in
// its place. It knows nothing of how Firecracker is run.
package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/run"
)

// Options are what to install, and where.
type Options struct {
	// Dir is the folder of all installed releases; a release is in
	// Dir/<version>. It belongs to root and is writable by nobody else.
	Dir string
	// Source is a version such as 1.16.1, which is downloaded, the path of a
	// release archive, or the path of a folder with firecracker and jailer in
	// it. "" is the newest version that is pinned.
	Source string
	// Arch is as Go names it.
	Arch string
	// SHA256 accepts an archive that is not pinned, if this is its checksum.
	SHA256 string
	// Unverified accepts a folder, whose programs nothing vouches for.
	Unverified bool
}

// Installed is what was put in place.
type Installed struct {
	Version     string
	Firecracker string // paths
	Jailer      string
	SHA256      map[string]string // of the programs, by name
	Verified    bool              // by a checksum that mvm or the caller knew
}

// programs are what a release consists of, for mvm.
var programs = []string{"firecracker", "jailer"}

// Install installs what o says. It is done again without harm; the caller
// makes sure that it runs once at a time.
func Install(ctx context.Context, o Options) (Installed, error) {
	if machines[o.Arch] == "" {
		return Installed{}, fmt.Errorf("cannot install Firecracker: there is none for %s", o.Arch)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return Installed{}, fmt.Errorf("cannot install Firecracker: %w", err)
	}
	if err := sweep(o.Dir); err != nil {
		return Installed{}, fmt.Errorf("cannot install Firecracker: %w", err)
	}
	staging, err := os.MkdirTemp(o.Dir, stagingPrefix)
	if err != nil {
		return Installed{}, fmt.Errorf("cannot install Firecracker: %w", err)
	}
	defer os.RemoveAll(staging)
	verified, pin, err := stage(ctx, o, staging)
	if err != nil {
		return Installed{}, fmt.Errorf("cannot install Firecracker: %w", err)
	}
	done, err := activate(ctx, o, staging, pin)
	if err != nil {
		return Installed{}, fmt.Errorf("cannot install Firecracker: %w", err)
	}
	done.Verified = verified
	return done, nil
}

// Nothing of this name outlives an installation that was not killed.
const stagingPrefix = ".new-"

func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, stagingPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// stage brings the two programs into staging. pin is the release that they
// were verified to be, if one is.
func stage(ctx context.Context, o Options, staging string) (verified bool, pin *Pin, err error) {
	source := o.Source
	if source == "" {
		source = Pins[0].Version
	}
	info, err := os.Stat(source)
	switch {
	case err == nil && info.IsDir():
		if !o.Unverified {
			return false, nil, fmt.Errorf("%s is a folder: nothing says what the programs in it are; that has to be accepted", source)
		}
		return false, nil, copyPrograms(source, staging)
	case err == nil:
		pin, err = stageArchive(source, o, staging)
		return err == nil, pin, err
	case strings.ContainsRune(source, '/'):
		return false, nil, err
	}
	pin = findVersion(strings.TrimPrefix(source, "v"))
	if pin == nil || pin.Archive[o.Arch] == "" {
		return false, nil, fmt.Errorf("%s is neither a file nor a version that mvm has a checksum for (it has %s)", source, pinnedVersions())
	}
	archive := filepath.Join(staging, "download.tgz")
	if err := download(ctx, pin.URL(o.Arch), archive); err != nil {
		return false, nil, err
	}
	got, err := stageArchive(archive, o, staging)
	if err != nil {
		return false, nil, err
	}
	if got != pin {
		return false, nil, fmt.Errorf("what was downloaded is not %s", pin.Version)
	}
	return true, pin, os.Remove(archive)
}

// stageArchive copies the archive, verifies the copy, and unpacks that.
func stageArchive(path string, o Options, staging string) (*Pin, error) {
	private := filepath.Join(staging, "verified.tgz")
	sum, err := copyFile(path, private, 0o600)
	if err != nil {
		return nil, err
	}
	pin := findArchive(o.Arch, sum)
	switch {
	case o.SHA256 != "" && !strings.EqualFold(o.SHA256, sum):
		return nil, fmt.Errorf("%s has the checksum %s, not %s", path, sum, strings.ToLower(o.SHA256))
	case pin == nil && o.SHA256 == "":
		return nil, fmt.Errorf("%s (sha256 %s) is no release for %s that mvm knows (%s)", path, sum, machines[o.Arch], pinnedVersions())
	}
	if err := unpack(private, machines[o.Arch], staging); err != nil {
		return nil, fmt.Errorf("cannot unpack %s: %w", path, err)
	}
	return pin, os.Remove(private)
}

// activate checks the staged programs and gives them their place.
func activate(ctx context.Context, o Options, staging string, pin *Pin) (Installed, error) {
	done := Installed{SHA256: map[string]string{}}
	for _, name := range programs {
		path := filepath.Join(staging, name)
		sum, err := sumFile(path)
		if err != nil {
			return done, err
		}
		if pin != nil && pin.Programs[o.Arch][name] != "" && pin.Programs[o.Arch][name] != sum {
			return done, fmt.Errorf("%s has the checksum %s, not that of %s", name, sum, pin.Version)
		}
		done.SHA256[name] = sum
		version, err := ProgramVersion(ctx, path)
		if err != nil {
			return done, err
		}
		if done.Version == "" {
			done.Version = version
		}
		if version != done.Version || pin != nil && version != pin.Version {
			return done, fmt.Errorf("%s says that it is %s", name, version)
		}
	}
	final := filepath.Join(o.Dir, done.Version)
	if err := os.Chmod(staging, 0o755); err != nil {
		return done, err
	}
	crash.Point("install/staged")
	if err := replace(staging, final); err != nil {
		return done, err
	}
	crash.Point("install/placed")
	done.Firecracker, done.Jailer = filepath.Join(final, "firecracker"), filepath.Join(final, "jailer")
	return done, nil
}

// replace gives staging its place in one step. What was there takes staging's,
// and is removed with it: at no moment is there no whole release.
func replace(staging, final string) error {
	if err := atomicfile.SyncDir(staging); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, staging, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) { // the first of its version
		err = os.Rename(staging, final)
	}
	if err != nil {
		return fmt.Errorf("cannot put %s in place: %w", final, err)
	}
	return atomicfile.SyncDir(filepath.Dir(final))
}

// ProgramVersion asks Firecracker or its jailer what it is. Both print a name and
// vX.Y.Z.
func ProgramVersion(ctx context.Context, path string) (string, error) {
	out, err := run.Output(ctx, path, "--version")
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(out))
	if len(words) < 2 || !strings.HasPrefix(words[1], "v") || strings.ContainsAny(words[1], "/\\") {
		return "", fmt.Errorf("%s --version does not name a version", filepath.Base(path))
	}
	return strings.TrimPrefix(words[1], "v"), nil
}

// download fetches url into path. curl does it: a program that starts machines
// need not carry an HTTP client in its memory.
func download(ctx context.Context, url, path string) error {
	if _, err := run.Output(ctx, "curl", "--fail", "--silent", "--show-error", "--location", "--proto", "=https", "--max-filesize", fmt.Sprint(maxArchive), "--output", path, url); err != nil {
		return fmt.Errorf("cannot download %s (a downloaded archive can be given in its place): %w", url, err)
	}
	return nil
}

func copyPrograms(from, to string) error {
	for _, name := range programs {
		if _, err := copyFile(filepath.Join(from, name), filepath.Join(to, name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies and returns the checksum of what it wrote.
func copyFile(from, to string, mode os.FileMode) (sum string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	return writeFile(to, io.LimitReader(in, maxArchive), mode)
}

func writeFile(to string, from io.Reader, mode os.FileMode) (sum string, err error) {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), from)
	err = errors.Join(err, out.Sync(), out.Close())
	return hex.EncodeToString(h.Sum(nil)), err
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func pinnedVersions() string {
	var versions []string
	for _, p := range Pins {
		versions = append(versions, p.Version)
	}
	return strings.Join(slices.Compact(versions), ", ")
}
