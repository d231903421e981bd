//go:build linux

package build_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

// flakeHead defines two profiles, minimal and baseline, whose artifacts are
// files of the source, copied by a static busybox: real derivations that need
// neither nixpkgs nor a network.
const flakeHead = `{
  outputs = { self }:
    let
      run = name: script: derivation {
        inherit name;
        system = "x86_64-linux";
        builder = "${self}/busybox";
        args = [ "sh" "-euc" script ];
        bb = "${self}/busybox";
        src = "${self}";
      };
      copy = file: run file "$bb cp $src/${file} $out";
`

const flakeBody = flakeHead + `    in {
      packages.x86_64-linux = {
        tenant-kernel-minimal = copy "kernel";
        tenant-rootfs-minimal = copy "rootfs.ext4";
        tenant-initrd-minimal = copy "initrd";
        tenant-fc-base-minimal = copy "fc-base.json";
        tenant-kernel = copy "kernel";
        tenant-rootfs = run "folder" "$bb mkdir $out; $bb cp $src/rootfs.ext4 $out/disk.img";
        tenant-fc-base = copy "fc-base.json";
      };
    };
}
`

// writeGuest makes a source tree with the given flake.nix.
func writeGuest(t testing.TB, flake string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "flake.nix", flake)
	write(t, dir, "kernel", string(elf(62)))
	write(t, dir, "initrd", "not empty")
	write(t, dir, "fc-base.json", `{"boot-source":{"kernel_image_path":"kernel"}}`)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("these tests need busybox-static: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	mkfs(t, filepath.Join(dir, "rootfs.ext4"))
	return dir
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkfs(t testing.TB, path string) {
	t.Helper()
	out, err := exec.Command("/sbin/mkfs.ext4", "-q", "-F", path, "1M").CombinedOutput()
	if err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
}

// elf is the beginning of a kernel for the given machine.
func elf(machine uint16) []byte {
	head := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
	binary.LittleEndian.PutUint16(head[18:], machine)
	return append(head, bytes.Repeat([]byte("kernel"), 100)...)
}

// mustBuild runs a build that must succeed.
func mustBuild(t testing.TB, req build.Request) (build.Manifest, build.Result) {
	t.Helper()
	m, res, err := build.Build(t.Context(), req, nil)
	if err != nil {
		t.Fatal(explain(err))
	}
	return m, res
}

// explain renders an error as the command line would.
func explain(err error) string {
	if err == nil {
		return "no error"
	}
	s := err.Error()
	var e *build.Error
	if errors.As(err, &e) {
		s += "\nlog: " + e.Log + "\nhint: " + e.Hint
	}
	return s
}

// newRequest is a request whose folders, labels and volumes are the test's own.
func newRequest(t testing.TB, engine build.Engine, flake string) build.Request {
	t.Helper()
	root := t.TempDir()
	scope := "test" + strings.ToLower(filepath.Base(filepath.Dir(root))[len("TestX"):])
	req := build.Request{
		Tenant: "acme", Instance: "0123456789abcdef", Profile: "minimal", FlakeRef: flake, System: "x86_64-linux",
		Engine: engine.Name, Image: enginetest.Builder(t, engine),
		SrcDir: filepath.Join(root, "src"), BuildDir: filepath.Join(root, "build"), ImagesDir: filepath.Join(root, "images"),
		LogPath: filepath.Join(root, "build.log"),
		Scope:   safe(scope), Offline: true,
		Limits: build.Limits{MemMiB: 1024, CPUs: 2, Pids: 256},
	}
	t.Cleanup(func() {
		_, err := build.GC(context.Background(), []build.Engine{engine}, build.GCRequest{
			SrcDir: req.SrcDir, BuildDir: req.BuildDir, ImagesDir: req.ImagesDir, Scope: req.Scope})
		if err != nil {
			t.Error(err)
		}
	})
	return req
}

func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
