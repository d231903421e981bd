package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/run"
)

// The local builder image is for hosts that can reach a Debian mirror but not
// a container registry. Fetching it needs the network, importing it needs the
// engine: the two are apart, so that they can happen in different places.

// LocalImageOptions say what the local image is made of.
type LocalImageOptions struct {
	Suite string // of Debian; "" is trixie, which has Nix 2.26
}

const debianMirror = "http://deb.debian.org/debian"

// localPackages are what a build needs beside Debian's essential packages: git
// is for git+… references.
const localPackages = "nix-bin,ca-certificates,git"

func (o LocalImageOptions) withDefaults() LocalImageOptions {
	o.Suite = cmp.Or(o.Suite, "trixie")
	return o
}

// LocalImagePath is where FetchLocalImage puts its archive. Another recipe has
// another path, so a file that is there is the one that opts ask for.
func LocalImagePath(dir string, opts LocalImageOptions) string {
	opts = opts.withDefaults()
	recipe := sha256.Sum256([]byte(strings.Join(mmdebstrapArgs(opts, ""), "\x00")))
	return filepath.Join(dir, fmt.Sprintf("builder-%s-%x-%s.tar", opts.Suite, recipe[:6], HostSystem()))
}

// FetchLocalImage makes the local image's file system as an archive in dir and
// returns its path. It needs mmdebstrap and a Debian mirror, and no engine.
func FetchLocalImage(ctx context.Context, dir string, opts LocalImageOptions) (path string, err error) {
	opts = opts.withDefaults()
	tool, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return "", &Error{Kind: ErrHost, Msg: "cannot make a local builder image", Err: err, Hint: "install mmdebstrap (apt-get install mmdebstrap)"}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make a local builder image: %w", err)
	}
	tmp, err := atomicfile.NewDir(dir)
	if err != nil {
		return "", fmt.Errorf("cannot make a local builder image: %w", err)
	}
	defer tmp.Discard()
	made := filepath.Join(tmp.Path, "image.tar")
	err = run.Run(ctx, run.Command{Name: tool, Args: mmdebstrapArgs(opts, made), Env: bootstrapEnv(os.Environ())})
	if err != nil {
		return "", &Error{Kind: ErrHost, Msg: "cannot make a local builder image", Err: err,
			Hint: "it needs a Debian mirror and Debian's archive keyring"}
	}
	path = LocalImagePath(dir, opts)
	if err := os.Rename(made, path); err != nil {
		return "", fmt.Errorf("cannot make a local builder image: %w", err)
	}
	return path, atomicfile.SyncDir(dir)
}

// mmdebstrapArgs renders the command line that makes the archive. The same
// packages give the same bytes.
func mmdebstrapArgs(opts LocalImageOptions, target string) []string {
	args := []string{"--quiet", "--variant=essential", "--include=" + localPackages}
	for _, dir := range []string{"doc", "man", "locale", "info", "bash-completion", "lintian", "gitweb"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+dir+"/*")
	}
	return append(args,
		`--customize-hook=rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/lists/*`,
		// Tenants' stores are filled from it, owner included (see prepareScript).
		`--customize-hook=mkdir -p "$1"/nix/var/mvm`,
		`--customize-hook=chown -R `+readyStore+`:`+readyStore+` "$1"/nix`,
		opts.Suite, target, debianMirror)
}

// bootstrapEnv adds the folders of the system's tools to PATH, which a user's
// own often lacks, and fixes the time that the archive's files get.
func bootstrapEnv(env []string) []string {
	out := []string{"SOURCE_DATE_EPOCH=1"}
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			kv = "PATH=" + path + ":/usr/local/sbin:/usr/sbin:/sbin"
		}
		out = append(out, kv)
	}
	return out
}

// ImportLocalImage gives the archive at path to the engine and returns the
// image, whose Ref is what Request.Image takes. It needs no network.
func ImportLocalImage(ctx context.Context, engine Engine, path string) (Image, error) {
	stamp, err := hashArtifact(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, &Error{Kind: ErrInput, Msg: "there is no local builder image at " + path, Hint: "fetch it first"}
	}
	if err != nil {
		return Image{}, fmt.Errorf("cannot import builder image: %w", err)
	}
	ref := localName + stamp.SHA256[:12]
	image, err := ShowImage(ctx, engine, ref)
	if err != nil {
		return image, err
	}
	if !image.Present {
		if err := importArchive(ctx, engine, path, ref); err != nil {
			return Image{}, fmt.Errorf("cannot import builder image: %w", err)
		}
		if image, err = ShowImage(ctx, engine, ref); err != nil {
			return image, err
		}
	}
	image.Ref = engine.imageName(image)
	return image, nil
}

// localName begins the names of local builder images.
const localName = "mvm-builder:"

var localTag = regexp.MustCompile(`^` + localName + `[0-9a-f]{12}$`)

// importArchive uses `import` where the engine has it. nerdctl only loads
// image archives, so it gets one.
func importArchive(ctx context.Context, engine Engine, path, ref string) error {
	if engine.Name != "nerdctl" {
		_, err := engine.output(ctx, "import", "--change=LABEL "+labelStore+"="+readyStore, path, ref)
		return err
	}
	return loadArchive(ctx, engine, path, ref)
}
