//go:build linux

package build_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

// The benchmarks compare a build with what a person would type to get the same
// files from the same engine, image and flake: one docker run with nix build
// and cp in it. Both sides take turns in one run; reported are the seconds of
// each and what mvm adds.
//
// Alike on both sides: the engine, the image, a store volume that is new in a
// cold build and kept otherwise, Nix's sandbox and its settings, the limits of
// the container, no network, and the four files in a folder of the host in the
// end. By hand nobody snapshots the source, locks and records it, asks Nix
// whether an output was changed after it was built, checks, syncs and hashes the
// files or sweeps: that is mvm's own, and counts as added.

// benchGuest is the repository's own Debian guest, fetched by `make prepare`.
func benchGuest(b *testing.B) (flake, cache string) {
	b.Helper()
	cacheDir, err := enginetest.CacheDir()
	if err != nil {
		b.Fatal(err)
	}
	repo, err := filepath.Abs("../..")
	if err != nil {
		b.Fatal(err)
	}
	source := filepath.Join(repo, "nix", "debian")
	cache = filepath.Join(cacheDir, "debian")
	for _, path := range []string{cache, filepath.Join(source, "packages.json")} {
		if _, err := os.Stat(path); err != nil {
			b.Fatalf("%v: run `make prepare` first", err)
		}
	}
	// A copy, because the benchmarks change it.
	flake = filepath.Join(b.TempDir(), "guest")
	if out, err := exec.Command("cp", "-rL", source, flake).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return flake, cache
}

// bare does by hand what mvm does.
type bare struct {
	engine             build.Engine
	image, flake       string
	cache, volume, out string
}

func (h bare) build(b *testing.B) time.Duration {
	b.Helper()
	begin := time.Now()
	args := []string{"run", "--rm", "--network=none", "--memory=4096m", "--memory-swap=4096m", "--cpus=2", "--pids-limit=4096", "--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined",
		"-v", h.volume + ":/nix", "-v", h.flake + ":/src:ro", "-v", h.cache + ":/cache:ro", "-v", h.out + ":/out",
		"-e", "NIX_CONFIG=experimental-features = nix-command flakes\nsandbox = true\nsandbox-fallback = false\nbuild-users-group =\nsubstitute = false\ncores = 2\nmax-jobs = 2",
		h.image, "sh", "-euc", `
            set -- $(nix build --no-link --print-out-paths path:/src#tenant-kernel-minimal path:/src#tenant-rootfs-minimal path:/src#tenant-initrd-minimal path:/src#tenant-fc-base-minimal)
            cp -rL --sparse=always "$@" /out/`}
	if out, err := exec.Command(h.engine.Path, args...).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return time.Since(begin)
}

func (h bare) forget(b *testing.B) {
	b.Helper()
	if out, err := exec.Command(h.engine.Path, "volume", "rm", "--force", h.volume).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
}

// setup returns both sides of a comparison.
func setup(b *testing.B) (build.Request, bare) {
	b.Helper()
	engine := enginetest.Docker(b)
	flake, cache := benchGuest(b)
	req := newRequest(b, engine, flake)
	req.CacheDir, req.Limits = cache, build.Limits{CPUs: 2}
	h := bare{engine: engine, image: req.Image, flake: flake, cache: cache, volume: "mvm-bench-" + req.Scope, out: b.TempDir()}
	b.Cleanup(func() { h.forget(b) })
	return req, h
}

func timed(b *testing.B, req build.Request) (build.Manifest, time.Duration) {
	b.Helper()
	begin := time.Now()
	m, _, err := build.Build(b.Context(), req, nil)
	if err != nil {
		b.Fatal(explain(err))
	}
	return m, time.Since(begin)
}

func report(b *testing.B, mvm, bare time.Duration) {
	n := time.Duration(b.N)
	b.ReportMetric((mvm / n).Seconds(), "mvm-s")
	b.ReportMetric((bare / n).Seconds(), "bare-s")
	b.ReportMetric(((mvm - bare) / n).Seconds(), "added-s")
	b.ReportMetric(100*(float64(mvm)/float64(bare)-1), "added-%")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkCold(b *testing.B) {
	req, h := setup(b)
	var mvm, bare time.Duration
	for range b.N {
		h.forget(b)
		bare += h.build(b)
		// Throwing the last store away is not part of a cold build.
		if _, err := build.GC(b.Context(), []build.Engine{h.engine}, build.GCRequest{Scope: req.Scope, SrcDir: req.SrcDir, BuildDir: req.BuildDir, ImagesDir: req.ImagesDir}); err != nil {
			b.Fatal(err)
		}
		_, took := timed(b, req)
		mvm += took
	}
	report(b, mvm, bare)
}

func BenchmarkWarm(b *testing.B) {
	req, h := setup(b)
	h.build(b)
	m, _ := timed(b, req)
	var mvm, bare time.Duration
	for i := range b.N {
		path := filepath.Join(h.flake, "fc-base.json")
		text, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		// One more space each time: another line for Nix, the same for a reader.
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), ":", ": ", 1)), 0o644); err != nil {
			b.Fatal(err)
		}
		req.PreviousManifest = &m
		if i%2 == 0 { // whoever comes second finds the page cache warm
			bare += h.build(b)
		}
		next, took := timed(b, req)
		mvm += took
		if i%2 == 1 {
			bare += h.build(b)
		}
		m = next
	}
	report(b, mvm, bare)
}

// A build of what has been built. In a git tree, what belongs to the source is
// for git to say.
func BenchmarkNoop(b *testing.B) {
	b.Run("folder", func(b *testing.B) { benchmarkNoop(b, false) })
	b.Run("git", func(b *testing.B) { benchmarkNoop(b, true) })
}

func benchmarkNoop(b *testing.B, inGit bool) {
	req, h := setup(b)
	if inGit {
		for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "a"}} {
			if out, err := exec.Command("git", append([]string{"-C", h.flake}, args...)...).CombinedOutput(); err != nil {
				b.Fatalf("git %v: %v\n%s", args, err, out)
			}
		}
	}
	h.build(b)
	m, _ := timed(b, req)
	time.Sleep(100 * time.Millisecond) // files this new are not vouched for, only hashed
	if err := build.Verify(m, req.ImagesDir, build.VerifyFull); err != nil {
		b.Fatal(err)
	}
	req.PreviousManifest = &m
	var mvm, bare time.Duration
	for range b.N {
		bare += h.build(b)
		_, took := timed(b, req)
		mvm += took
	}
	report(b, mvm, bare)
}
