//go:build linux

package build_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

// What a build sees and may do, as it reports itself in its initrd.
const probeScript = `
  {
    echo "uid $($bb awk '/^Uid/{print $2}' /proc/self/status)"
    echo "outer $($bb awk '{print $2}' /proc/self/uid_map)"
    echo "caps $($bb awk '/^CapBnd/{print $2}' /proc/self/status)"
    echo "interfaces $($bb awk 'NR>2{print $1}' /proc/net/dev | $bb tr -d '\n')"
    for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches; do
      ( : >> $f ) 2>/dev/null && echo "may write $f"
    done
    for f in /out /src /cache /etc/shadow /var/run/docker.sock /nix/var; do
      [ -e $f ] && echo "sees $f"
    done
    ( $bb mount -t tmpfs none /proc/sys ) 2>/dev/null && echo mounted
    echo end
  } > $out
`

// probing puts a script in the initrd's place.
func probing(script string) string {
	nix := "run \"initrd\" ''" + strings.NewReplacer("''", "'''", "${", "''${").Replace(script) + "''"
	return strings.Replace(flakeBody, `copy "initrd"`, nix, 1)
}

func TestSandbox(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			req := newRequest(t, engine, writeGuest(t, probing(probeScript)))
			m, _ := mustBuild(t, req)
			got := readFile(t, filepath.Join(req.ImagesDir, m.Image, build.Initrd))
			for _, want := range []string{"outer 30000\n", "interfaces lo:\n"} {
				if !strings.Contains(got, want) {
					t.Errorf("the build reports\n%swant %q", got, want)
				}
			}
			for _, never := range []string{"may write", "sees", "mounted"} {
				if strings.Contains(got, never) {
					t.Errorf("the build reports\n%s", got)
				}
			}
		})
	}
}

// Without Nix's sandbox the container is what holds a build.
func TestNoSandbox(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, probing(probeScript)))
	req.NoSandbox = true
	m, _ := mustBuild(t, req)
	if m.Builder.Sandbox {
		t.Error("the manifest says that the sandbox was on")
	}
	got := readFile(t, filepath.Join(req.ImagesDir, m.Image, build.Initrd))
	for _, want := range []string{"uid 30000\n", "caps 0000000000000000\n", "sees /out\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the build reports\n%swant %q", got, want)
		}
	}
	for _, never := range []string{"may write", "mounted", "sees /var/run/docker.sock"} {
		if strings.Contains(got, never) {
			t.Errorf("the build reports\n%s", got)
		}
	}
}

// TestForgedDerivation has a flake name as its derivation what would be options
// of Nix's, to switch its sandbox off, and as its output another's.
func TestForgedDerivation(t *testing.T) {
	engine := enginetest.Docker(t)
	for name, forged := range map[string]string{
		"options": `{ drvPath = "${d.drvPath} ${d.outPath} kernel\n--option ${d.outPath} kernel\nsandbox ${d.outPath} kernel\nfalse"; inherit (d) outPath; }`,
		"output":  `{ inherit (d) drvPath; outPath = "${builtins.path { path = "${self}/kernel"; name = "another"; }}"; }`,
	} {
		t.Run(name, func(t *testing.T) {
			flake := strings.Replace(probing(probeScript), `tenant-kernel-minimal = copy "kernel";`,
				`tenant-kernel-minimal = let d = copy "kernel"; in { type = "derivation"; } // `+forged+`;`, 1)
			req := newRequest(t, engine, writeGuest(t, flake))
			m, _, err := build.Build(t.Context(), req, nil)
			if err == nil {
				t.Errorf("it was built: %+v\n%s", m.Outputs, readFile(t, filepath.Join(req.ImagesDir, m.Image, build.Initrd)))
			}
			if !errors.Is(err, build.ErrInput) {
				t.Errorf("err = %s", explain(err))
			}
		})
	}
}

// TestEndlessAnswer asks a flake that has more to say than anybody wants to know.
func TestEndlessAnswer(t *testing.T) {
	engine := enginetest.Docker(t)
	flake := `{ outputs = { self }: { packages.x86_64-linux = builtins.listToAttrs
		(builtins.genList (n: { name = "tenant-${toString n}-` + strings.Repeat("x", 1000) + `"; value = n; }) 20000); }; }`
	req := newRequest(t, engine, writeGuest(t, flake))
	answer, err := build.Evaluate(t.Context(), req, build.Evaluation{Expr: "ps: builtins.attrNames ps.x86_64-linux"}, nil)
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%d MiB, %v", len(answer)>>20, err)
	}
}

// TestTampering lets a tenant's build change every store path that it can
// reach, including those that another tenant builds, too.
func TestTampering(t *testing.T) {
	engine := enginetest.Docker(t)
	clean := newRequest(t, engine, writeGuest(t, flakeBody))
	want, _ := mustBuild(t, clean)

	evil := clean
	evil.Tenant, evil.NoSandbox = "mallory", true
	mustBuild(t, evil) // so that the same paths are in its store
	evil.FlakeRef = writeGuest(t, probing(`
      for f in /nix/store/*-kernel /nix/store/*-rootfs.ext4 /nix/store/*/busybox; do
        $bb chmod u+w $f $($bb dirname $f) 2>/dev/null
        echo evil > $f && tampered=1
      done
      [ "$tampered" = 1 ] && echo tampered > $out
    `))
	evil.LogPath = filepath.Join(t.TempDir(), "log")
	// How this ends is mallory's business; what counts is what acme gets.
	_, _, err := build.Build(t.Context(), evil, nil)
	t.Logf("mallory's build: %v", err)

	tampered := evil
	tampered.FlakeRef, tampered.Force = clean.FlakeRef, true
	if _, _, err := build.Build(t.Context(), tampered, nil); err == nil {
		t.Error("mallory's own store is sound: the test did not tamper with anything")
	}
	if err := build.Verify(want, clean.ImagesDir, build.VerifyFull); err != nil {
		t.Error(err)
	}
	again := clean
	again.Force = true
	if m, _ := mustBuild(t, again); m.Image != want.Image {
		t.Errorf("acme's rebuild gave %s, want %s", m.Image, want.Image)
	}
	other := clean
	other.Tenant = "beta" // a store made after the tampering
	if m, _ := mustBuild(t, other); m.Image != want.Image {
		t.Errorf("beta's build gave %s, want %s", m.Image, want.Image)
	}
}

// A tenant may get the id of an earlier one that was somebody else's. It never
// sees that one's store, and its first build removes it.
func TestNewLife(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			req := newRequest(t, engine, writeGuest(t, flakeBody))
			want, _ := mustBuild(t, req)
			former := stores(t, engine, req.Scope)
			if len(former) != 1 || !strings.Contains(former[0], req.Instance) {
				t.Fatalf("stores = %q", former)
			}
			// What the former left in its store must not be taken for the result.
			out, err := exec.Command(engine.Path, "run", "--rm", "--network=none", "--volume="+former[0]+":/nix", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", req.Image,
				"sh", "-euc", "for f in /nix/store/*-kernel; do chmod u+w $f; echo evil >$f; done").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			req.Instance = "fedcba9876543210"
			m, _ := mustBuild(t, req)
			if m.Image != want.Image || !strings.Contains(readFile(t, req.LogPath), "building '/nix/store/") {
				t.Errorf("image = %s, want %s, built anew:\n%s", m.Image, want.Image, readFile(t, req.LogPath))
			}
			now := stores(t, engine, req.Scope)
			if len(now) != 1 || !strings.Contains(now[0], req.Instance) {
				t.Errorf("stores = %q, want the new tenant's only", now)
			}
			// What a destroyed tenant leaves is nothing at all.
			if err := build.RemoveStores(t.Context(), engine, req.Scope, req.Tenant); err != nil {
				t.Fatal(err)
			}
			if left := stores(t, engine, req.Scope); len(left) != 0 {
				t.Errorf("stores = %q", left)
			}
		})
	}
}

func stores(t *testing.T, engine build.Engine, scope string) []string {
	t.Helper()
	out, err := exec.Command(engine.Path, "volume", "ls", "--quiet", "--filter", "label=mvm.scope="+scope).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

// The builders of one tenant share a user. One that changes another's output
// behind Nix's back is found out, so that NAR hashes in a manifest are true.
func TestTamperingWithOwnOutputs(t *testing.T) {
	engine := enginetest.Docker(t)
	flake := strings.Replace(flakeBody, `copy "initrd"`,
		`run "initrd" "echo ${copy "kernel"} > $out; $bb chmod u+w ${copy "kernel"} && echo evil >> ${copy "kernel"} || echo failed >> $out"`, 1)
	req := newRequest(t, engine, writeGuest(t, flake))
	m, _, err := build.Build(t.Context(), req, nil)
	if err == nil {
		got := readFile(t, filepath.Join(req.ImagesDir, m.Image, build.Initrd))
		t.Fatalf("the build was accepted: initrd = %q", got)
	}
	if !errors.Is(err, build.ErrBuild) || !strings.Contains(explain(err), "was modified") {
		t.Errorf("err = %s", explain(err))
	}
	// A fresh store brings the truth back.
	req.FlakeRef = writeGuest(t, flakeBody)
	req.FreshStore = true
	mustBuild(t, req)
}

// A build that writes to /out cannot smuggle anything past the checks.
func TestHostileOutput(t *testing.T) {
	engine := enginetest.Docker(t)
	for name, script := range map[string]string{
		"link":      "$bb ln -s /etc/shadow /out/kernel; echo x > $out",
		"directory": "$bb mkdir /out/kernel; echo x > $out",
		"report":    `echo '{"url":"github:trusted/guest","locks":{},"locked":{"narHash":"sha256-x"}}' > /out/metadata.json; echo x > $out`,
	} {
		t.Run(name, func(t *testing.T) {
			req := newRequest(t, engine, writeGuest(t, probing(script)))
			req.NoSandbox = true
			_, _, err := build.Build(t.Context(), req, nil)
			if err == nil {
				t.Error("the build was accepted")
			}
			t.Log(explain(err))
		})
	}
}

// TestFillingTheDisk lets a build write without end, to its outputs' disk. It is
// ended while there is room left for others, and nothing of it stays.
func TestFillingTheDisk(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, probing(`
      $bb dd if=/dev/zero of=/out/more bs=1M count=75 2>/dev/null
      while $bb dd if=/dev/zero bs=64k count=2 >>/out/more 2>/dev/null; do $bb usleep 200000; done
      echo "the disk was full" >&2
    `)))
	req.NoSandbox = true // in Nix's there is no /out
	if err := os.Mkdir(req.BuildDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", req.BuildDir, "tmpfs", 0, "size=80m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(req.BuildDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	_, _, err := build.Build(t.Context(), req, nil)
	if !errors.Is(err, build.ErrHost) || !strings.Contains(explain(err), "too little room") {
		t.Errorf("err = %s", explain(err))
	}
	if log := readFile(t, req.LogPath); strings.Contains(log, "the disk was full") {
		t.Errorf("it was ended too late:\n%s", log)
	}
	if left := stores(t, engine, req.Scope); len(left) > 0 {
		t.Errorf("its store is left: %s", left)
	}
	if left, err := filepath.Glob(filepath.Join(req.BuildDir, req.Tenant, "out")); err != nil || len(left) > 0 {
		t.Errorf("left: %s, %v", left, err)
	}
}

// TestSubstitutes shares what a trusted tenant built, and nothing else.
func TestSubstitutes(t *testing.T) {
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			trusted := newRequest(t, engine, writeGuest(t, flakeBody))
			m, _ := mustBuild(t, trusted)
			dir := t.TempDir()
			secret, public, err := build.NewStoreKey("mvm-1")
			if err != nil {
				t.Fatal(err)
			}
			if half, err := build.PublicStoreKey(secret); err != nil || half != public {
				t.Errorf("the public half of the key is %q, %v, want %q", half, err, public)
			}
			if err := build.ExportStore(t.Context(), build.ExportRequest{
				Manifest: m, Instance: trusted.Instance, Engine: engine, Scope: trusted.Scope, Substitutes: dir, SecretKey: secret}); err != nil {
				t.Fatal(explain(err))
			}

			_, other, err := build.NewStoreKey("mvm-2")
			if err != nil {
				t.Fatal(err)
			}
			for i, tt := range []struct {
				key    string
				spoil  bool
				builds bool
			}{
				{key: public, builds: false},
				{key: other, builds: true}, // not signed by that one
				{key: public, spoil: true, builds: true},
			} {
				req := trusted
				req.Tenant = []string{"reader", "doubter", "victim"}[i]
				req.Substitutes, req.SubstitutesKeys = dir, []string{tt.key}
				if tt.spoil {
					spoil(t, dir)
				}
				got, _ := mustBuild(t, req)
				built := strings.Contains(readFile(t, req.LogPath), "building '/nix/store/")
				if got.Image != m.Image || built != tt.builds {
					t.Errorf("%s: image %s, built %v, want %s and %v\n%s", req.Tenant, got.Image, built, m.Image, tt.builds, readFile(t, req.LogPath))
				}
			}
		})
	}
}

// TestShareHidesItsKey signs what is in a store that its tenant has filled with
// programs and settings of its own: none of them runs, and so none sees the key.
func TestShareHidesItsKey(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	m, _ := mustBuild(t, req)
	inStore := func(script string) string {
		t.Helper()
		out, err := exec.Command(engine.Path, "run", "--rm", "--network=none", "--user=30000:30000", "--volume="+stores(t, engine, req.Scope)[0]+":/nix",
			req.Image, "sh", "-euc", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	inStore(`bin=/nix/var/nix/profiles/default/bin conf=/nix/var/mvm/home/.config/nix
mkdir -p $bin $conf
for name in cat nix sh; do
	printf '#!/bin/sh\necho %s >>/nix/ran\n/bin/cat /tmp/key >>/nix/ran\nexec /usr/bin/%s "$@"\n' $name $name >$bin/$name
	chmod +x $bin/$name
done
echo "plugin-files = /nix/none.so" >$conf/nix.conf`)
	again := req
	again.Force = true
	if m, _ := mustBuild(t, again); !m.Builder.Sandbox { // nor do they run in the next build
		t.Error("it was built without the sandbox")
	}
	secret, public, err := build.NewStoreKey("mvm-1")
	if err != nil {
		t.Fatal(err)
	}
	share := req
	share.Tenant, share.Substitutes, share.SubstitutesKeys = "reader", t.TempDir(), []string{public}
	if err := build.ExportStore(t.Context(), build.ExportRequest{
		Manifest: m, Instance: req.Instance, Engine: engine, Scope: req.Scope, Substitutes: share.Substitutes, SecretKey: secret}); err != nil {
		t.Fatal(explain(err))
	}
	if ran := inStore("cat /nix/ran 2>/dev/null || :"); ran != "" {
		t.Errorf("the tenant's programs ran beside the key: %q", strings.ReplaceAll(ran, secret, "THE KEY"))
	}
	if got, _ := mustBuild(t, share); got.Image != m.Image {
		t.Errorf("what was shared is image %s, want %s", got.Image, m.Image)
	}
}

// spoil changes every archive in the folder, but not what is said of it.
func spoil(t *testing.T, dir string) {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(dir, "nar", "*"))
	if err != nil || len(archives) == 0 {
		t.Fatal(archives, err)
	}
	for _, path := range archives {
		if err := os.WriteFile(path, []byte("evil"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
