package build

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Tenants never share a store that any of them can write to. What they may
// share is a folder of signed store paths, which only whoever holds the secret
// key adds to, and which builds see read-only.

// publicKey is the form of Nix's public keys.
var publicKey = regexp.MustCompile(`^[A-Za-z0-9._-]+:[A-Za-z0-9+/]{43}=$`)

// NewStoreKey makes a key pair in Nix's form. name tells keys apart.
func NewStoreKey(name string) (secret, public string, err error) {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return "", "", &Error{Kind: ErrInput, Msg: fmt.Sprintf("%q cannot name a key", name), Hint: "use letters, digits, dots and dashes"}
	}
	pub, sec, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("cannot make a store key: %w", err)
	}
	encode := func(key []byte) string { return name + ":" + base64.StdEncoding.EncodeToString(key) }
	return encode(sec), encode(pub), nil
}

// PublicStoreKey is the public half of a key that NewStoreKey made.
func PublicStoreKey(secret string) (string, error) {
	name, encoded, _ := strings.Cut(secret, ":")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) != ed25519.PrivateKeySize {
		return "", errors.New("it is no secret key of Nix's form") // and says nothing of what it holds
	}
	public := ed25519.PrivateKey(key).Public().(ed25519.PublicKey)
	return name + ":" + base64.StdEncoding.EncodeToString(public), nil
}

// exportScript signs and copies store paths. The key comes on standard input and
// is never in an argument, a file outside the container's own memory or the
// environment. Nothing of the tenant's runs or is read as settings beside it: its
// store, where an earlier build may have put anything, is not at /nix, where
// programs are looked for, and only copied from.
const exportScript = `set -eu
umask 077
mkdir "$HOME"
cat >/tmp/key
nix copy --from ` + sharedRoot + ` --to "file:///substitutes?compression=zstd&secret-key=/tmp/key" "$@"`

// sharedRoot is where a container that signs finds the tenant's /nix.
const sharedRoot = "/tenant"

// ExportRequest says whose outputs to export.
type ExportRequest struct {
	Manifest    Manifest // of a build that is trusted
	Instance    string   // as in the build's request
	Engine      Engine
	Scope       string
	Substitutes string // the folder
	SecretKey   string // as NewStoreKey made it
	Limits      Limits
}

// ExportStore adds the outputs of a trusted build, with all that they refer
// to, to the folder of signed store paths. The caller holds the lock of the
// tenant's builds.
func ExportStore(ctx context.Context, req ExportRequest) error {
	m := req.Manifest
	// An engine would make an absent volume, without labels to find it by.
	stores, err := req.Engine.stores(ctx, req.Scope)
	if err != nil {
		return err
	}
	if !slices.Contains(stores, storeVolume{m.Tenant, req.Instance, m.Builder.ImageID}.name(req.Scope)) {
		return &Error{Kind: ErrBuild, Msg: "the Nix store of " + m.Tenant + " is gone", Hint: "build again with --force"}
	}
	if err := os.MkdirAll(req.Substitutes, 0o755); err != nil {
		return fmt.Errorf("cannot export store paths: %w", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(req.Substitutes, UID, UID); err != nil {
			return fmt.Errorf("cannot export store paths: %w", err)
		}
	}
	log := newNixLog(nil, io.Discard, time.Now())
	err = engineRun{req.Engine, exportContainer(req), log}.feed(ctx, strings.NewReader(req.SecretKey))
	if err != nil {
		return &Error{Kind: ErrBuild, Msg: "cannot export store paths of " + req.Manifest.Tenant, Err: withoutArgv(err), Log: log.lastWords(),
			Hint: "they are in the tenant's store only until it is collected or made afresh: build again"}
	}
	return nil
}

func exportContainer(req ExportRequest) container {
	m := req.Manifest
	nofile, nproc := ulimits(req.Engine)
	return container{
		name:   containerName(req.Scope, m.Tenant),
		labels: [][2]string{{labelScope, scopeLabel(req.Scope)}, {labelTenant, m.Tenant}, {labelImage, m.Builder.ImageID}},
		image:  req.Engine.imageName(Image{Ref: m.Builder.Image, ID: m.Builder.ImageID}),
		user:   UID,
		mounts: []mount{
			{source: storeVolume{m.Tenant, req.Instance, m.Builder.ImageID}.name(req.Scope), target: sharedRoot + "/nix", volume: true},
			{source: filepath.Clean(req.Substitutes), target: substitutesDir},
		},
		env: [][2]string{
			{"PATH", searchPath}, {"LC_ALL", "C.UTF-8"}, {"USER", "mvm"}, {"HOME", "/tmp/home"}, {"NIX_REMOTE", "dummy://"},
			{"NIX_CONFIG", nixConfig(Request{Offline: true, Limits: req.Limits.withDefaults()})},
		},
		limits: req.Limits.withDefaults(), nofile: nofile, nproc: nproc,
		offline: true,
		argv:    append([]string{"sh", "-c", exportScript, "mvm-export"}, m.StorePaths()...),
	}
}
