//go:build linux

package build_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/auser/mvm/internal/await"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

// engines are those that this machine can have. nerdctl is in no registry that
// Debian ships; its command lines have golden tests.
var engines = map[string]func(testing.TB) build.Engine{
	"docker": enginetest.Docker,
	"podman": enginetest.Podman,
}

func TestBuild(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			req := newRequest(t, engine, writeGuest(t, flakeBody))
			m, res := mustBuild(t, req)
			if res.UpToDate || !res.Published || len(res.Warnings) > 0 {
				t.Errorf("result = %+v", res)
			}
			checkManifest(t, m, req, engine)
			checkImage(t, m, req)
			if left := containers(t, engine); left != "" {
				t.Errorf("containers are left: %s", left)
			}
			if err := build.Verify(m, req.ImagesDir, build.VerifyFull); err != nil {
				t.Error(err)
			}
			log := readFile(t, req.LogPath)
			for _, want := range []string{"== evaluate", "building '/nix/store/", "== publish"} {
				if !strings.Contains(log, want) {
					t.Errorf("the log lacks %q:\n%s", want, log)
				}
			}
		})
	}
}

func checkManifest(t *testing.T, m build.Manifest, req build.Request, engine build.Engine) {
	t.Helper()
	if m.Tenant != "acme" || m.Name != "minimal" || m.Source.Ref != req.FlakeRef || !m.Source.Locked || m.Source.Dirty {
		t.Errorf("manifest = %+v", m)
	}
	b := m.Builder
	if b.Engine != engine.Name || b.EngineVersion != engine.Version || b.ImageID != req.Image || !b.Sandbox || !b.Offline || b.NixVersion == "" {
		t.Errorf("builder = %+v", b)
	}
	var attrs []string
	for _, o := range m.Outputs {
		attrs = append(attrs, o.Attr)
		if !strings.HasPrefix(o.StorePath, "/nix/store/") || !strings.HasSuffix(o.Derivation, ".drv") ||
			!strings.HasPrefix(o.NARHash, "sha256-") || o.NARSize == 0 || o.ClosureSize < o.NARSize {
			t.Errorf("output = %+v", o)
		}
	}
	if got := strings.Join(attrs, " "); got != "tenant-kernel-minimal tenant-rootfs-minimal tenant-initrd-minimal tenant-fc-base-minimal" {
		t.Errorf("outputs = %s", got)
	}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := build.DecodeManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Encode(); err != nil || string(second) != string(data) {
		t.Errorf("the manifest changes when it is read: %v\n%s", err, second)
	}
}

// checkImage wants the files of the source, owned by root and closed to
// writers, but open to every reader: VMs read them as users of their own.
func checkImage(t *testing.T, m build.Manifest, req build.Request) {
	t.Helper()
	dir := filepath.Join(req.ImagesDir, m.Image)
	for _, name := range []string{"", build.Kernel, build.Rootfs, build.Initrd, build.BaseConfig} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o444)
		if name == "" {
			want = os.ModeDir | 0o755
		}
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode() != want || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%q is %v of %d:%d, want %v of 0:0", name, info.Mode(), st.Uid, st.Gid, want)
		}
		if name == build.Rootfs && st.Blocks*512 >= info.Size() {
			t.Errorf("%s takes %d bytes on disk, so its holes are lost", name, st.Blocks*512)
		}
		if name != "" && readFile(t, filepath.Join(dir, name)) != readFile(t, filepath.Join(req.FlakeRef, name)) {
			t.Errorf("%s is not what the flake says", name)
		}
	}
}

func containers(t testing.TB, engine build.Engine) string {
	t.Helper()
	out, err := exec.Command(engine.Path, "ps", "--all", "--quiet", "--filter", "label=mvm.scope").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestRebuild(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	committed := 0
	req.Commit = func(build.Manifest) error { committed++; return nil }
	first, _ := mustBuild(t, req)
	req.PreviousManifest = &first

	t.Run("unchanged", func(t *testing.T) {
		req := req
		req.Engine = "no such engine" // is not asked for
		m, res := mustBuild(t, req)
		if !res.UpToDate || m.Image != first.Image || committed != 2 {
			t.Errorf("result = %+v, commits = %d", res, committed)
		}
	})
	t.Run("forced", func(t *testing.T) {
		req := req
		req.Force = true
		m, res := mustBuild(t, req)
		if res.Published || m.Image != first.Image {
			t.Errorf("result = %+v", res)
		}
	})
	t.Run("fresh store", func(t *testing.T) {
		req := req
		req.FreshStore = true
		m, res := mustBuild(t, req)
		if res.UpToDate || !m.Builder.FreshStore || !strings.Contains(readFile(t, req.LogPath), "building '/nix/store/") {
			t.Errorf("result = %+v, builder = %+v", res, m.Builder)
		}
		req.PreviousManifest = &m
		if _, res := mustBuild(t, req); !res.UpToDate {
			t.Errorf("the second time: %+v", res)
		}
	})
	t.Run("another tenant", func(t *testing.T) {
		req := req
		req.Tenant = "beta"
		m, res := mustBuild(t, req)
		if res.UpToDate || res.Published || m.Image != first.Image || m.Tenant != "beta" {
			t.Errorf("result = %+v", res)
		}
		if images, err := os.ReadDir(req.ImagesDir); err != nil || len(images) != 1 {
			t.Errorf("images = %v, %v, want one for both tenants", images, err)
		}
	})
	t.Run("damaged image", func(t *testing.T) {
		kernel := filepath.Join(req.ImagesDir, first.Image, build.Kernel)
		if err := os.WriteFile(kernel, []byte("evil"), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := build.Verify(first, req.ImagesDir, build.VerifyQuick); !errors.Is(err, build.ErrChanged) {
			t.Errorf("verify: %v", err)
		}
		_, res := mustBuild(t, req)
		if res.UpToDate || !res.Published {
			t.Errorf("result = %+v", res)
		}
		if err := build.Verify(first, req.ImagesDir, build.VerifyFull); err != nil {
			t.Error(err)
		}
	})
	t.Run("changed source", func(t *testing.T) {
		write(t, req.FlakeRef, "initrd", "something else")
		m, res := mustBuild(t, req)
		if res.UpToDate || !res.Published || m.Image == first.Image {
			t.Errorf("result = %+v", res)
		}
	})
	t.Run("failed commit", func(t *testing.T) {
		req := req
		req.Force = true
		sentinel := errors.New("no space for the record")
		req.Commit = func(build.Manifest) error { return sentinel }
		if _, _, err := build.Build(t.Context(), req, nil); !errors.Is(err, sentinel) {
			t.Errorf("err = %v", err)
		}
	})
}

// The oldest Nix that mvm works with is Debian 12's.
func TestOldNix(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	req.Image = enginetest.BuilderOf(t, engine, build.LocalImageOptions{Suite: "bookworm"})
	req.Check = true
	m, _ := mustBuild(t, req)
	if m.Builder.NixVersion != "2.8.0" || !m.Checked || len(m.Outputs) != 4 {
		t.Errorf("manifest = %+v", m)
	}
	checkImage(t, m, req)
	testSubfolder(t, req)
	broken := newRequest(t, engine, writeGuest(t, strings.Replace(flakeBody, `copy "kernel"`, `run "k" "echo last words; exit 3"`, 1)))
	broken.Image = req.Image
	wantError(t, broken, build.ErrBuild, "Nix could not build the guest", "last words")
	broken.Profile = "nosuch"
	wantError(t, broken, build.ErrInput, "defines no guest", "its profiles are baseline, minimal")
}

// A flake below the tree's root sees the whole tree.
func TestSubfolder(t *testing.T) {
	engine := enginetest.Docker(t)
	testSubfolder(t, newRequest(t, engine, writeGuest(t, flakeBody)))
}

func testSubfolder(t *testing.T, req build.Request) {
	t.Helper()
	dir := req.FlakeRef
	below := filepath.Join(dir, "nix", "odd name")
	write(t, below, "flake.nix", readFile(t, filepath.Join(dir, "flake.nix")))
	if err := os.Remove(filepath.Join(dir, "flake.nix")); err != nil {
		t.Fatal(err)
	}
	req.FlakeRef = "path:" + dir + "?dir=nix/odd+name"
	write(t, below, "flake.nix", strings.ReplaceAll(flakeBody, "${self}", "${../..}"))
	m, _ := mustBuild(t, req)
	if got := readFile(t, filepath.Join(req.ImagesDir, m.Image, build.Initrd)); got != "not empty" {
		t.Errorf("initrd = %q", got)
	}
}

// wantError runs a build that must fail with all of the words somewhere in
// what a person sees, and must publish nothing.
func wantError(t *testing.T, req build.Request, kind error, words ...string) {
	t.Helper()
	before, _ := os.ReadDir(req.ImagesDir)
	_, _, err := build.Build(t.Context(), req, nil)
	if !errors.Is(err, kind) {
		t.Errorf("err = %s\nwant: %v", explain(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(explain(err), w) {
			t.Errorf("err = %s\nwant it to have %q", explain(err), w)
		}
	}
	after, err := os.ReadDir(req.ImagesDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("a failed build left images: %v", after)
	}
	if _, err := os.Lstat(filepath.Join(req.BuildDir, req.Tenant, "out")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed build left its folder: %v", err)
	}
}

func TestNames(t *testing.T) {
	engine := enginetest.Docker(t)
	flake := strings.Replace(flakeBody, "tenant-kernel-minimal", `tenant-kernel-acme = copy "kernel";
        tenant-rootfs-acme = copy "rootfs.ext4";
        tenant-fc-base-acme = copy "fc-base.json";
        tenant-kernel-minimal`, 1)
	dir := writeGuest(t, flake)
	for _, tt := range []struct{ tenant, profile, want string }{
		{"acme", "minimal", "acme"}, // the tenant's own comes first
		{"beta", "minimal", "minimal"},
		{"beta", "", ""}, // baseline, without a suffix
	} {
		req := newRequest(t, engine, dir)
		req.Tenant, req.Profile = tt.tenant, tt.profile
		if m, _ := mustBuild(t, req); m.Name != tt.want {
			t.Errorf("%s/%s took %q, want %q", tt.tenant, tt.profile, m.Name, tt.want)
		}
	}
	req := newRequest(t, engine, dir)
	req.Tenant, req.Profile = "beta", "python"
	wantError(t, req, build.ErrInput, `no guest for tenant "beta" or profile "python"`, "its profiles are acme, baseline, minimal")
}

// Builds of different tenants run side by side: neither ends before both build.
func TestTwoBuildsAtOnce(t *testing.T) {
	engine := enginetest.Docker(t)
	slow := strings.Replace(flakeBody, `copy "kernel"`, `run "kernel" "echo asleep; $bb sleep 2; $bb cp $src/kernel $out"`, 1)
	req := newRequest(t, engine, writeGuest(t, slow))
	var wg, asleep sync.WaitGroup
	asleep.Add(2)
	for _, tenant := range []string{"acme", "beta"} {
		req := req
		req.Tenant, req.LogPath = tenant, filepath.Join(t.TempDir(), "log")
		wg.Go(func() {
			var here sync.Once
			_, _, err := build.Build(t.Context(), req, func(e build.Event) {
				if e.Text == "asleep" {
					here.Do(asleep.Done) // the build's output, and so its end, waits for the other's
					asleep.Wait()
				}
			})
			here.Do(asleep.Done) // one that failed early keeps nobody waiting
			if err != nil {
				t.Error(explain(err))
			}
		})
	}
	wg.Wait()
}

func TestCancel(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			req := newRequest(t, engine, writeGuest(t, sleeping))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, _, err := build.Build(ctx, req, cancelOnSleep(cancel))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("err = %v", explain(err))
			}
			if left := containers(t, engine); left != "" {
				t.Errorf("containers are left: %s", left)
			}
		})
	}
}

// sleeping never ends by itself.
var sleeping = strings.Replace(flakeBody, `copy "kernel"`, `run "kernel" "echo asleep; $bb sleep 1000"`, 1)

func cancelOnSleep(cancel func()) build.Progress {
	return func(e build.Event) {
		if e.Kind == build.Log && e.Text == "asleep" {
			cancel()
		}
	}
}

func TestTimeLimit(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, sleeping))
	mustBuild(t, func() build.Request { // so that the limit goes to the sleeper
		r := req
		r.FlakeRef = writeGuest(t, flakeBody)
		return r
	}())
	req.Limits.Timeout = 10 * time.Second
	begin := time.Now()
	wantError(t, req, build.ErrBuild, "took longer than its limit of 10s", "asleep")
	if took := time.Since(begin); took > 25*time.Second {
		t.Errorf("it took %v", took)
	}
	if left := containers(t, engine); left != "" {
		t.Errorf("containers are left: %s", left)
	}
}

func TestMemoryLimit(t *testing.T) {
	engine := enginetest.Docker(t)
	greedy := strings.Replace(flakeBody, `copy "kernel"`, `run "kernel" "$bb dd if=/dev/zero of=/dev/null bs=900M count=1; echo survived"`, 1)
	req := newRequest(t, engine, writeGuest(t, greedy))
	req.Limits.MemMiB = 300
	wantError(t, req, build.ErrBuild, "Nix could not build", "the build's limit of 300 MiB")
	if strings.Contains(readFile(t, req.LogPath), "kernel> survived") {
		t.Error("a build took more memory than its limit")
	}
}

// TestKilledBuild kills a whole mvm, as the kernel's OOM killer would.
func TestKilledBuild(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, sleeping))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestHelperBuild$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "MVM_HELPER_BUILD="+encodeRequest(t, req))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if _, err := out.Read(buf); err != nil { // it says when the builder sleeps
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	await.Until(t, 20*time.Second, func() (bool, string) {
		return containers(t, engine) == "", "the container of a killed mvm still runs"
	})
	write(t, req.FlakeRef, "flake.nix", flakeBody)
	mustBuild(t, req)
}

func TestGCOfStores(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			req := newRequest(t, engine, writeGuest(t, flakeBody))
			m, _ := mustBuild(t, req)
			gc := build.GCRequest{SrcDir: req.SrcDir, BuildDir: req.BuildDir, ImagesDir: req.ImagesDir, Scope: req.Scope,
				Images: []string{m.Image}, Snapshots: []string{m.Source.Snapshot}, Tenants: map[string]build.StoreUse{"acme": {Instance: req.Instance, ImageID: m.Builder.ImageID}}}
			if items, err := build.GC(t.Context(), []build.Engine{engine}, gc); err != nil || len(items) != 0 {
				t.Errorf("what is in use went: %+v, %v", items, err)
			}
			gc.Tenants = nil
			for _, dry := range []bool{true, false} {
				gc.DryRun = dry
				items, err := build.GC(t.Context(), []build.Engine{engine}, gc)
				if err != nil || len(items) != 2 || items[0].Kind != "volume" || items[0].Bytes < 1<<20 || items[1].Kind != "build" {
					t.Errorf("dry run %v: items = %+v, %v", dry, items, err)
				}
			}
			if items, err := build.GC(t.Context(), []build.Engine{engine}, gc); err != nil || len(items) != 0 {
				t.Errorf("the second time: %+v, %v", items, err)
			}
		})
	}
}

// TestSweep leaves containers as an engine that crashed would: one of a build
// that is gone, one of a build that runs, one of another root.
func TestSweep(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			req := newRequest(t, engine, writeGuest(t, flakeBody))
			leave := func(scope, tenant string) string {
				name := "mvm-build-" + scope + "-" + tenant
				out, err := exec.Command(engine.Path, "create", "--name="+name, "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",
					"--label=mvm.scope="+scope, "--label=mvm.tenant="+tenant, req.Image, "true").CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				t.Cleanup(func() {
					if out, err := exec.Command(engine.Path, "rm", "--force", name).CombinedOutput(); err != nil && !strings.Contains(strings.ToLower(string(out)), "no such container") && !strings.Contains(string(out), "no container with") {
						t.Errorf("%v\n%s", err, out)
					}
				})
				return name
			}
			gone, own := leave(req.Scope, "gone"), leave(req.Scope, "acme")
			leave(req.Scope, "busy")
			leave(req.Scope+"x", "gone")
			tryLock := func(tenant string) (func(), bool, error) { return func() {}, tenant != "busy", nil }
			swept, err := build.SweepContainers(t.Context(), engine, req.Scope, tryLock)
			slices.Sort(swept)
			if want := []string{own, gone}; err != nil || !slices.Equal(swept, want) {
				t.Errorf("swept %q, %v, want %q", swept, err, want)
			}
			// A build clears its own name, which its lock keeps from the sweep.
			leave(req.Scope, "acme")
			mustBuild(t, req)
		})
	}
}

// A kill while a store is prepared leaves one that belongs to root.
func TestHalfPreparedStore(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	mustBuild(t, req)
	volume, err := exec.Command(engine.Path, "volume", "ls", "--quiet", "--filter", "label=mvm.scope="+req.Scope).Output()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(engine.Path, "run", "--rm", "--network=none", "--volume="+strings.TrimSpace(string(volume))+":/nix", req.Image,
		"sh", "-euc", "chown 0:0 /nix; rm -rf /nix/store/*").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	req.Force = true
	mustBuild(t, req)
}
