package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKillBuild kills a build after every single step, with the real engine
// and real Nix. What the tenant had must be whole in between, and the same
// build, given again, must end with what the source says. A tenant that is
// destroyed after its first build was killed must leave nothing, nor may one
// whose destroy was killed.
func TestKillBuild(t *testing.T) {
	k := newStandinEnv(t, "kill-build", "10.53.0.1/24")
	flake := newToy(t)
	toy := func(id string) []string {
		return []string{"tenant", "create", id, "--flake", flake.dir, "--profile", "minimal", "--data-size", "16", "--mem", "64"}
	}
	// With a fresh store, a rebuild comes by all the places a first build does.
	rebuild := []string{"tenant", "build", "acme", "--fresh-store"}
	k.mvm(t, toy("acme")...)
	flake.edit(t)
	k.mvm(t, rebuild...)
	flake.edit(t)
	points := k.buildPoints(t, rebuild)
	for _, want := range []string{"build/snapshot", "build/out", "build/store-removed", "build/store-created", "build/container", "build/publish", "link/artifacts", "link/manifest", "link/state"} {
		if !slices.Contains(points, want) {
			t.Fatalf("the build did not come by %s, only by %v", want, points)
		}
	}
	for _, point := range points {
		t.Run("build/"+strings.ReplaceAll(point, "/", "_"), func(t *testing.T) {
			before := k.initrd(t)
			want := flake.edit(t)
			k.killBuild(t, rebuild, point)
			k.mvm(t, "tenant", "verify", "acme")
			if got := k.initrd(t); got != before && got != want {
				t.Errorf("after the kill the tenant has %q, want %q or %q", got, before, want)
			}
			k.isOnRecord(t)
			k.mvm(t, rebuild[:3]...)
			k.mvm(t, "tenant", "verify", "acme")
			if got := k.initrd(t); got != want {
				t.Errorf("the same build made %q, want %q", got, want)
			}
			k.isOnRecord(t)
			if left := k.inEngine(t, "ps", "--all", "acme"); left != "" {
				t.Errorf("containers are left: %s", left)
			}
		})
		if strings.HasPrefix(point, "build/") {
			t.Run("destroy-after/"+strings.ReplaceAll(point, "/", "_"), func(t *testing.T) {
				k.mvm(t, toy("beta")...)
				k.killBuild(t, []string{"tenant", "build", "beta"}, point)
				k.mvm(t, "tenant", "destroy", "beta", "--yes", "--wipe-volumes")
				k.goneWithoutTrace(t, "beta")
			})
		}
	}
	for _, point := range []string{"build/container-removed", "build/store-removed"} {
		t.Run("destroy/"+strings.ReplaceAll(point, "/", "_"), func(t *testing.T) {
			k.mvm(t, toy("beta")...)
			k.mvm(t, "tenant", "build", "beta")
			destroy := []string{"tenant", "destroy", "beta", "--yes", "--wipe-volumes"}
			k.killBuild(t, destroy, point)
			k.mvm(t, destroy...)
			k.goneWithoutTrace(t, "beta")
		})
	}
	k.mvm(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
	k.goneWithoutTrace(t, "acme")
	k.nothingLeft(t)
}

// toy is a copy of testdata/toy with the artifacts that its flake copies.
type toy struct {
	dir     string
	version int
}

func newToy(t *testing.T) *toy {
	t.Helper()
	f := &toy{dir: t.TempDir()}
	kernel := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
	binary.LittleEndian.PutUint16(kernel[18:], 62) // x86_64
	for name, data := range map[string][]byte{
		"flake.nix": read(t, "testdata/toy/flake.nix"), "busybox": read(t, "/bin/busybox"),
		"kernel": kernel, "fc-base.json": []byte("{}"),
	} {
		if err := os.WriteFile(filepath.Join(f.dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.ext4", "-q", filepath.Join(f.dir, "rootfs.ext4"), "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return f
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// edit changes the source and returns what a build of it has as its initrd.
func (f *toy) edit(t *testing.T) string {
	t.Helper()
	f.version++
	text := fmt.Sprintf("version %d", f.version)
	if err := os.WriteFile(filepath.Join(f.dir, "initrd"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return text
}

// buildPoints does the act and returns the places that it came by.
func (k *killEnv) buildPoints(t *testing.T, act []string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trace")
	k.withEnv(t, act, "MVM_CRASH_TRACE="+file, 0)
	var points []string
	for line := range strings.Lines(string(read(t, file))) {
		if point := strings.TrimSpace(line); !slices.Contains(points, point) {
			points = append(points, point)
		}
	}
	return points
}

// isOnRecord holds what acme boots to be on record as a build.
func (k *killEnv) isOnRecord(t *testing.T) {
	t.Helper()
	sum := fmt.Sprintf("%x", sha256.Sum256(read(t, filepath.Join(k.root, "tenants", "acme", "artifacts", "manifest.json"))))
	if !strings.Contains(string(read(t, filepath.Join(k.root, "audit", "tenant-acme.jsonl"))), `"manifest_sha256":"`+sum+`"`) {
		t.Error("no record has the manifest that the tenant has")
	}
}

// killBuild does the act, which must be killed at the point.
func (k *killEnv) killBuild(t *testing.T, act []string, point string) {
	t.Helper()
	k.withEnv(t, act, "MVM_CRASH_AT="+point, 137)
}

func (k *killEnv) withEnv(t *testing.T, args []string, env string, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(k.bin, "mvm"), append([]string{"--root", k.root}, args...)...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("mvm %s with %s ended with %d, want %d\n%s", strings.Join(args, " "), env, got, want, out)
	}
}

// initrd is the content of what acme would boot with.
func (k *killEnv) initrd(t *testing.T) string {
	t.Helper()
	manifest := readJSON(t, filepath.Join(k.root, "tenants", "acme", "artifacts", "manifest.json"))
	return string(read(t, filepath.Join(k.root, "images", manifest["image"].(string), "initrd")))
}

// inEngine lists what the engine has of a tenant.
func (k *killEnv) inEngine(t *testing.T, args ...string) string {
	t.Helper()
	last := len(args) - 1
	out, err := exec.Command("docker", append(args[:last:last], "--quiet", "--filter", "label=mvm.tenant="+args[last])...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return string(bytes.TrimSpace(out))
}

func (k *killEnv) goneWithoutTrace(t *testing.T, id string) {
	t.Helper()
	if left := k.inEngine(t, "ps", "--all", id) + k.inEngine(t, "volume", "ls", id); left != "" {
		t.Errorf("%s is destroyed, but the engine has: %s", id, left)
	}
	for _, dir := range []string{"tenants", "build", "retained"} {
		left, err := filepath.Glob(filepath.Join(k.root, dir, "*"+id+"*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s is destroyed, but there is %v, %v", id, left, err)
		}
	}
}
