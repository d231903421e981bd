//go:build linux

package build_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

// TestBadInput builds flakes that are wrong in one way each, in one store,
// after a good build whose image has to survive them all.
func TestBadInput(t *testing.T) {
	engine := enginetest.Docker(t)
	good := newRequest(t, engine, writeGuest(t, flakeBody))
	image, _ := mustBuild(t, good)

	change := func(from, to string) string {
		if !strings.Contains(flakeBody, from) {
			t.Fatalf("the flake has no %q", from)
		}
		return strings.Replace(flakeBody, from, to, 1)
	}
	for name, tt := range map[string]struct {
		flake string
		file  [2]string // name and content of a file that differs
		kind  error
		words []string
	}{
		"no flake": {flake: "", kind: build.ErrInput, words: []string{"Nix cannot evaluate the flake"}},
		"syntax error": {flake: "{ outputs = { self }: {", kind: build.ErrInput,
			words: []string{"Nix cannot evaluate the flake", "syntax error"}},
		"no packages": {flake: `{ outputs = { self }: { lib = { }; }; }`, kind: build.ErrInput,
			words: []string{"the flake has no packages.x86_64-linux", "a guest needs tenant-kernel"}},
		"another system": {flake: `{ outputs = { self }: { packages.riscv64-linux = { }; packages.aarch64-linux = { }; }; }`, kind: build.ErrInput,
			words: []string{"the flake has no packages.x86_64-linux", "it has packages for aarch64-linux, riscv64-linux"}},
		"no guest": {flake: `{ outputs = { self }: { packages.x86_64-linux = { hello = 1; }; }; }`, kind: build.ErrInput,
			words: []string{"defines no guest", "needs the outputs tenant-kernel-minimal, tenant-rootfs-minimal and tenant-fc-base-minimal"}},
		"outputs missing": {flake: change("tenant-kernel-minimal", "tenant-kernel-maximal"), kind: build.ErrInput,
			words: []string{"the flake has no packages.x86_64-linux.tenant-kernel-minimal", "it has tenant-fc-base, ", "tenant-kernel-maximal"}},
		"output of the wrong type": {flake: change(`tenant-kernel-minimal = copy "kernel"`, `tenant-kernel-minimal = "kernel"`), kind: build.ErrInput,
			words: []string{"packages.x86_64-linux.tenant-kernel-minimal is a string, not a derivation"}},
		"output that is a function": {flake: change(`tenant-rootfs-minimal = copy "rootfs.ext4"`, `tenant-rootfs-minimal = x: x`), kind: build.ErrInput,
			words: []string{"tenant-rootfs-minimal is a lambda, not a derivation"}},
		"throw": {flake: change(`tenant-kernel-minimal = copy "kernel"`, `tenant-kernel-minimal = throw "not for you"`), kind: build.ErrInput,
			words: []string{"Nix cannot evaluate the flake", "not for you"}},
		"impure": {flake: change(`copy "kernel"`, `copy (builtins.readFile /etc/hostname)`), kind: build.ErrInput,
			words: []string{"Nix cannot evaluate the flake", "forbidden in pure evaluation mode"}},
		"unknown input": {flake: change("outputs = { self }:", "outputs = { self, nixpkgs }:"), kind: build.ErrInput,
			words: []string{"Nix cannot evaluate the flake", "cannot find flake 'flake:nixpkgs'"}},
		"build failure": {flake: change(`copy "kernel"`, `run "kernel" "echo the last words; exit 3"`), kind: build.ErrBuild,
			words: []string{"Nix could not build the guest", "the last words", "exit code 3"}},
		"two files in the folder": {flake: change(`copy "rootfs.ext4"`, `run "r" "$bb mkdir $out; echo > $out/a; echo > $out/b"`), kind: build.ErrInput,
			words: []string{"must hold one file, or one called rootfs.ext4"}},
		"rootfs without a file system": {file: [2]string{"rootfs.ext4", strings.Repeat("x", 4096)}, kind: build.ErrInput,
			words: []string{"tenant-rootfs is no ext4 image: it has no ext superblock"}},
		"empty rootfs": {file: [2]string{"rootfs.ext4", ""}, kind: build.ErrInput, words: []string{"it is too short"}},
		"kernel for another architecture": {file: [2]string{"kernel", string(elf(183))}, kind: build.ErrInput,
			words: []string{"tenant-kernel is an aarch64 ELF vmlinux, and x86_64 boots an x86_64 ELF vmlinux"}},
		"bzImage": {file: [2]string{"kernel", strings.Repeat("\x00", 0x202) + "HdrS" + strings.Repeat("\x00", 100)}, kind: build.ErrInput,
			words: []string{"tenant-kernel is a compressed x86 bzImage", "export vmlinux"}},
		"base config that is no JSON": {file: [2]string{"fc-base.json", "{,}"}, kind: build.ErrInput,
			words: []string{"tenant-fc-base is no usable Firecracker configuration"}},
		"base config with a tail": {file: [2]string{"fc-base.json", "{} {}"}, kind: build.ErrInput, words: []string{"something follows the object"}},
		"dangerous base config":   {file: [2]string{"fc-base.json", `{"evil":1}`}, kind: build.ErrInput, words: []string{"evil is not allowed"}},
		"empty initrd":            {file: [2]string{"initrd", ""}, kind: build.ErrInput, words: []string{"tenant-initrd is empty"}},
		"link out of the tree": {flake: change(`copy "kernel"`, `copy (builtins.readFile ./outside)`), kind: build.ErrInput,
			words: []string{"Nix cannot evaluate the flake", `"outside" leads out of the source tree`}},
	} {
		t.Run(name, func(t *testing.T) {
			flake := tt.flake
			if flake == "" {
				flake = flakeBody
			}
			req := good
			req.FlakeRef = writeGuest(t, flake)
			switch {
			case name == "no flake":
				write(t, req.FlakeRef, "flake.nix", "")
			case name == "link out of the tree":
				if err := os.Symlink("/etc/hostname", filepath.Join(req.FlakeRef, "outside")); err != nil {
					t.Fatal(err)
				}
			case tt.file[0] != "":
				write(t, req.FlakeRef, tt.file[0], tt.file[1])
			}
			req.CheckBaseConfig = func(data []byte) error {
				if strings.Contains(string(data), "evil") {
					return errors.New("evil is not allowed")
				}
				return nil
			}
			wantError(t, req, tt.kind, tt.words...)
		})
	}
	if err := build.Verify(image, good.ImagesDir, build.VerifyFull); err != nil {
		t.Error(err)
	}
}

// dependent is a flake with an input.
var dependent = strings.Replace(strings.Replace(flakeBody,
	"outputs = { self }:", `inputs.dep.url = "path:/cache/dep"; outputs = { self, dep }:`, 1),
	`copy "initrd"`, `run "initrd" "echo ${dep.word} > $out"`, 1)

func TestLocks(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, dependent))
	req.CacheDir = t.TempDir()
	write(t, req.CacheDir, "dep/flake.nix", `{ outputs = { self }: { word = "one"; }; }`)

	req.RequireLock = true
	wantError(t, req, build.ErrInput, "lock file is missing or does not match", "nix flake lock")

	req.RequireLock = false
	m, res := mustBuild(t, req)
	if m.Source.Locked || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "lock file is missing or incomplete") {
		t.Errorf("locked = %v, warnings = %q", m.Source.Locked, res.Warnings)
	}
	req.PreviousManifest = &m
	again, res := mustBuild(t, req)
	if !res.UpToDate || again.Image != m.Image {
		t.Errorf("a second build without a lock: %+v", res)
	}
	write(t, req.CacheDir, "dep/flake.nix", `{ outputs = { self }: { word = "two"; }; }`)
	moved, res := mustBuild(t, req)
	if res.UpToDate || moved.Source.LockHash == m.Source.LockHash || moved.Image == m.Image {
		t.Errorf("the input moved, and the build says %+v", res)
	}

	// With the lock that was used, the same input is wanted for good.
	write(t, req.FlakeRef, "flake.lock", string(moved.Source.LockFile()))
	req.RequireLock = true
	locked, res := mustBuild(t, req)
	if !locked.Source.Locked || locked.Source.LockHash != moved.Source.LockHash || len(res.Warnings) > 0 {
		t.Errorf("locked = %+v, warnings = %q", locked.Source, res.Warnings)
	}
	write(t, req.CacheDir, "dep/flake.nix", `{ outputs = { self }: { word = "three"; }; }`)
	req.Tenant = "beta" // whose store does not have the old one
	wantError(t, req, build.ErrInput, "Nix cannot evaluate the flake", "mismatch")
}

func TestCheck(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	req.Check = true
	if m, _ := mustBuild(t, req); !m.Checked {
		t.Error("the manifest does not say that it was checked")
	}
	req.FlakeRef = writeGuest(t, strings.Replace(flakeBody, `copy "initrd"`,
		`run "initrd" "echo the time is $($bb cat /proc/uptime) > $out"`, 1))
	wantError(t, req, build.ErrBuild, "not reproducible: initrd differs first at byte 1")
}

func TestDiskFull(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=200k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	full := writeGuest(t, flakeBody)
	write(t, full, "kernel", string(elf(62))+strings.Repeat("no hole", 100_000))

	t.Run("build folder", func(t *testing.T) {
		req := req
		req.FlakeRef, req.BuildDir = full, filepath.Join(small, "build")
		// cp may hear of it, or what watches the disk, whichever is first.
		wantError(t, req, build.ErrHost, "disk", "mvm gc")
	})
	t.Run("images", func(t *testing.T) {
		req := req
		req.FlakeRef, req.ImagesDir = full, filepath.Join(small, "images")
		wantError(t, req, build.ErrHost, "disk is full", "mvm gc")
	})
	t.Run("snapshots", func(t *testing.T) {
		req := req
		req.SrcDir = filepath.Join(small, "src")
		wantError(t, req, build.ErrHost, "disk is full", "mvm gc")
	})
}

func TestOddNames(t *testing.T) {
	engine := enginetest.Docker(t)
	dir := writeGuest(t, flakeBody)
	for _, name := range []string{"a b", "quote\"'", "new\nline", "-rf", "\xff\xfe", "$(reboot)", "ünï", strings.Repeat("l", 200)} {
		write(t, dir, name, "x")
	}
	odd := filepath.Join(t.TempDir(), "a,b \"c\" $d")
	if err := os.Rename(dir, odd); err != nil {
		t.Fatal(err)
	}
	req := newRequest(t, engine, odd)
	req.SrcDir = filepath.Join(t.TempDir(), `s,r"c`)
	mustBuild(t, req)
}

func TestNetwork(t *testing.T) {
	engine := enginetest.Docker(t)
	// A fixed output may use the network, if the container has one.
	fixed := strings.Replace(flakeBody, `copy "initrd"`, `derivation {
          name = "fixed"; system = "x86_64-linux"; builder = "${self}/busybox";
          args = [ "sh" "-euc" "${self}/busybox grep -q eth0 /proc/net/dev; echo -n fetched > $out" ];
          outputHashMode = "flat"; outputHashAlgo = "sha256";
          outputHash = "`+fetchedHash+`";
        }`, 1)
	req := newRequest(t, engine, writeGuest(t, fixed))
	wantError(t, req, build.ErrBuild, "Nix could not build")
	req.Offline = false
	if m, _ := mustBuild(t, req); m.Builder.Offline {
		t.Error("the manifest says that the build was offline")
	}
}

const fetchedHash = "0c7fcf412c36e9e1cfc3cca37cec9afedcfca86e1943f6827c36e88dfda41642" // of "fetched"
