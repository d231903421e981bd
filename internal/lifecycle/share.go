package lifecycle

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/store"
)

// Share signs what the tenant's last build made and adds it to the shared
// cache, for builds of all tenants. It returns the public key, which other
// hosts need to accept it. An unfinished one is finished by doing it again.
func (h *Host) Share(ctx context.Context, id string) (publicKey string, err error) {
	if err := h.MustExist(id); err != nil {
		return "", err
	}
	if h.Config.Build.SharedCache == "" {
		return "", &Error{Kind: ErrState, Msg: "there is no shared cache", Hint: "name a folder for it: build.shared_cache in " + h.Store.ConfigFile()}
	}
	lock, err := h.queue(ctx, id, nil)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	m, err := h.Manifest(id)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &Error{Kind: ErrState, Msg: "it is not built", Hint: "mvm tenant build " + id}
	}
	if err != nil {
		return "", err
	}
	instance, err := h.instance(id)
	if err != nil {
		return "", err
	}
	engine, err := build.Detect(ctx, m.Builder.Engine)
	if err != nil {
		return "", err
	}
	secret, err := h.makeCacheKey(ctx)
	if err != nil {
		return "", err
	}
	if publicKey, err = h.publicKey(secret); err != nil {
		return "", err
	}
	err = build.ExportStore(ctx, build.ExportRequest{
		Manifest: *m, Instance: instance, Engine: engine, Scope: h.Store.Scope,
		Substitutes: h.Config.Build.SharedCache, SecretKey: secret, Limits: h.buildLimits(),
	})
	return publicKey, h.record(id, "share", map[string]any{"cache": h.Config.Build.SharedCache, "key": publicKey, "outputs": m.Outputs}, err)
}

// makeCacheKey returns the key that signs for the shared cache, which is made
// when it is first needed.
func (h *Host) makeCacheKey(ctx context.Context) (secret string, err error) {
	lock, err := h.Store.LockHost(ctx)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	secret, err = h.cacheKey()
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	// Keys of several hosts are told apart by their names.
	if secret, _, err = build.NewStoreKey("mvm-" + strings.ToLower(rand.Text()[:10])); err != nil {
		return "", err
	}
	return secret, atomicfile.Write(h.Store.CacheKeyFile(), []byte(secret), 0o600)
}

// cacheKey reads the secret key; an error that wraps fs.ErrNotExist where
// nothing was shared yet.
func (h *Host) cacheKey() (string, error) {
	data, err := os.ReadFile(h.Store.CacheKeyFile())
	if err != nil {
		return "", fmt.Errorf("cannot read the key of the shared cache: %w", err)
	}
	return string(data), nil
}

func (h *Host) publicKey(secret string) (string, error) {
	public, err := build.PublicStoreKey(secret)
	if err != nil {
		path := h.Store.CacheKeyFile()
		return "", &store.DamagedError{Path: path, Err: err, Remedy: "restore the file from a backup, or remove it: mvm builder share makes another key and signs with it"}
	}
	return public, nil
}

// sharedCache is the folder that builds may take signed store paths from, and
// the keys they accept: this host's own and the configured ones. Without a
// folder or a key there is nothing to take.
func (h *Host) sharedCache() (dir string, keys []string, err error) {
	dir = h.Config.Build.SharedCache
	if dir == "" {
		return "", nil, nil
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil // nothing was shared yet
	}
	secret, err := h.cacheKey()
	switch {
	case err == nil:
		public, err := h.publicKey(secret)
		if err != nil {
			return "", nil, err
		}
		keys = append(keys, public)
	case !errors.Is(err, fs.ErrNotExist):
		return "", nil, err
	}
	keys = append(keys, h.Config.Build.SharedCacheKeys...)
	if len(keys) == 0 {
		return "", nil, nil
	}
	return dir, keys, nil
}
