//go:build linux

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/auser/mvm/internal/build"
)

// CacheDir is where engines and the builder image are kept between runs:
// MVM_TEST_CACHE, else .cache in the repository.
func CacheDir() (string, error) {
	if dir := os.Getenv("MVM_TEST_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return filepath.Join(dir, ".cache"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("cannot find a cache folder: set MVM_TEST_CACHE")
		}
		dir = filepath.Dir(dir)
	}
}

// shared is the daemon of this test process, started by the first test that
// wants one.
var shared struct {
	sync.Mutex
	daemon *Daemon
}

// Main runs the tests and stops what they started. Use it as
//
//	func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.daemon == nil {
		return code
	}
	if err := shared.daemon.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Docker returns a docker engine: the one that answers, else one of this
// process's own, for which the test's DOCKER_HOST is set. The package's
// TestMain must be Main.
func Docker(t testing.TB) build.Engine {
	t.Helper()
	ctx := context.Background()
	shared.Lock()
	defer shared.Unlock()
	if shared.daemon == nil && !Answers(ctx, "") {
		cache, err := CacheDir()
		if err != nil {
			t.Fatal(err)
		}
		if shared.daemon, err = Start(ctx, filepath.Join(cache, "docker")); err != nil {
			t.Fatal(err)
		}
	}
	if shared.daemon != nil {
		t.Setenv("DOCKER_HOST", shared.daemon.Host)
	}
	return detect(t, "docker")
}

// Podman returns podman with a storage of its own, for which the test's
// environment is set. It shares nothing with the host's podman.
func Podman(t testing.TB) build.Engine {
	t.Helper()
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "podman")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// podman mounts its image folder over itself and leaves it so.
		err := syscall.Unmount(filepath.Join(dir, "data", "overlay"), syscall.MNT_DETACH)
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		lock.Close()
	})
	for env, text := range map[string]string{
		"CONTAINERS_STORAGE_CONF": fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n",
			filepath.Join(dir, "data"), filepath.Join(dir, "run")),
		// crun refuses hosts that have controllers on both versions of cgroups.
		"CONTAINERS_CONF": "[engine]\nruntime = \"runc\"\n",
	} {
		conf := filepath.Join(dir, env)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Setenv(env, conf)
	}
	return detect(t, "podman")
}

func detect(t testing.TB, name string) build.Engine {
	t.Helper()
	engine, err := build.Detect(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// Builder returns the id of the local builder image in engine. The image is
// made of Debian's packages once, which takes a mirror and half a minute; the
// archive that make prepare fetches serves, too.
func Builder(t testing.TB, engine build.Engine) string {
	t.Helper()
	return BuilderOf(t, engine, build.LocalImageOptions{})
}

// imported are the images that were given to an engine already: to tell that
// they are there takes reading the whole archive.
var imported struct {
	sync.Mutex
	refs map[string]string // by engine and archive
}

// BuilderOf is Builder with another recipe.
func BuilderOf(t testing.TB, engine build.Engine, opts build.LocalImageOptions) string {
	t.Helper()
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path, err := FetchBuilder(context.Background(), filepath.Join(cache, "builder"), opts)
	if err != nil {
		t.Fatal(err)
	}
	imported.Lock()
	defer imported.Unlock()
	key := engine.Name + " " + path
	if ref, there := imported.refs[key]; there {
		return ref
	}
	image, err := build.ImportLocalImage(context.Background(), engine, path)
	if err != nil {
		t.Fatal(err)
	}
	if imported.refs == nil {
		imported.refs = map[string]string{}
	}
	imported.refs[key] = image.Ref
	return image.Ref
}

// FetchBuilder returns the archive of the local builder image in dir, and
// makes it where it is missing.
func FetchBuilder(ctx context.Context, dir string, opts build.LocalImageOptions) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := lockFile(filepath.Join(dir, "builder.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	path := build.LocalImagePath(dir, opts)
	_, err = os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return build.FetchLocalImage(ctx, dir, opts)
	}
	return path, err
}
