//go:build linux

package build_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

func TestDetect(t *testing.T) {
	docker := enginetest.Docker(t)
	if docker.Name != "docker" || docker.Version == "" {
		t.Errorf("engine = %+v", docker)
	}
	if first, err := build.Detect(t.Context(), ""); err != nil || first != docker {
		t.Errorf("Detect = %+v, %v, want docker", first, err)
	}
	podman := enginetest.Podman(t)
	t.Setenv("DOCKER_HOST", "unix:///nonexistent.sock")
	if second, err := build.Detect(t.Context(), ""); err != nil || second != podman {
		t.Errorf("without docker: %+v, %v, want podman", second, err)
	}
	wantDetect(t, "docker", "docker: installed, but its engine is not running", "start it with `systemctl start docker`")
	wantDetect(t, "kubernetes", `"kubernetes" is no container engine`, "use docker, nerdctl, podman")
}

func wantDetect(t *testing.T, preferred string, words ...string) {
	t.Helper()
	_, err := build.Detect(t.Context(), preferred)
	for _, w := range words {
		if !strings.Contains(explain(err), w) {
			t.Errorf("Detect(%q) = %s, want %q", preferred, explain(err), w)
		}
	}
}

func TestDetectNothing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	wantDetect(t, "", "no usable container engine (docker: not installed; nerdctl: not installed; podman: not installed)", "install docker; or install nerdctl")
	_, err := build.Detect(t.Context(), "")
	if !errors.Is(err, build.ErrHost) {
		t.Errorf("err = %v", err)
	}
}

// podman-docker gives podman docker's name.
func TestDetectPodmanAsDocker(t *testing.T) {
	podman := enginetest.Podman(t)
	dir := t.TempDir()
	if err := os.Symlink(podman.Path, filepath.Join(dir, "docker")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/sbin:/usr/bin:/sbin:/bin")
	engine, err := build.Detect(t.Context(), "docker")
	if err != nil || engine.Name != "podman" || engine.Path != filepath.Join(dir, "docker") {
		t.Errorf("Detect = %+v, %v", engine, err)
	}
}

// TestDetectAsStranger asks as a user who may not open the engine's socket.
func TestDetectAsStranger(t *testing.T) {
	if os.Getenv("MVM_HELPER_DETECT") != "" {
		_, err := build.Detect(t.Context(), "docker")
		fmt.Println(explain(err))
		return
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "self")
	if out, err := exec.Command("cp", self, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, mode := range map[string]os.FileMode{socket: 0o600, dir: 0o755, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(copied, "-test.run=^TestDetectAsStranger$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "MVM_HELPER_DETECT=1", "DOCKER_HOST=unix://"+socket, "HOME=/nonexistent")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "docker: permission denied") || !strings.Contains(string(out), "run mvm as root") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestImages(t *testing.T) {
	engine := enginetest.Docker(t)
	absent, err := build.ShowImage(t.Context(), engine, "mvm-nosuch:image")
	if err != nil || absent.Present {
		t.Errorf("absent image = %+v, %v", absent, err)
	}
	id := enginetest.Builder(t, engine)
	present, err := build.ShowImage(t.Context(), engine, id)
	if err != nil || !present.Present || present.ID != id || present.Bytes == 0 {
		t.Errorf("image = %+v, %v", present, err)
	}
	for _, tt := range []struct {
		ref  string
		kind error
		want string
	}{
		{"-v", build.ErrInput, "no image reference"},
		{"nixos/nix:latest", build.ErrInput, "not pinned"},
		{"registry.invalid/x@sha256:" + strings.Repeat("0", 64), build.ErrHost, "build-local"},
	} {
		if _, err := build.PullImage(t.Context(), engine, tt.ref); !errors.Is(err, tt.kind) || !strings.Contains(explain(err), tt.want) {
			t.Errorf("pull %s: %s", tt.ref, explain(err))
		}
	}
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	req.Image = ""
	wantError(t, req, build.ErrHost, "docker has no builder image "+build.DefaultImage, "mvm builder build-local")
}

// nerdctl cannot import a file system; docker says whether the image archive
// that it gets instead is one.
func TestImageArchive(t *testing.T) {
	engine := enginetest.Docker(t)
	dir := t.TempDir()
	layer, archive := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "image.tar")
	if out, err := exec.Command("tar", "-C", "/bin", "-cf", layer, "busybox").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := build.WriteImageArchive(f, layer, "mvm-test-archive:1"); err != nil {
		t.Fatal(err)
	}
	docker := func(args ...string) string {
		out, err := exec.Command(engine.Path, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	docker("load", "--input", archive)
	defer docker("rmi", "mvm-test-archive:1")
	if got := docker("run", "--rm", "--network=none", "mvm-test-archive:1", "/busybox", "echo", "works"); got != "works\n" {
		t.Errorf("the image says %q", got)
	}
}
