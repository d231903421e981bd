package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entry is a file of a test's archive. Scripts stand in for the programs.
type entry struct{ name, text string }

func program(name, version string) string {
	return fmt.Sprintf("#!/bin/sh\necho '%s v%s'\n", name, version)
}

func release(version string) []entry {
	dir := "release-v" + version + "-x86_64/"
	return []entry{
		{dir + "LICENSE", "x"},
		{dir + "firecracker-v" + version + "-x86_64.debug", "x"},
		{dir + "firecracker-v" + version + "-x86_64", program("Firecracker", version)},
		{dir + "jailer-v" + version + "-x86_64", program("Jailer", version)},
	}
}

func writeArchive(t *testing.T, entries []entry) (path, sum string) {
	t.Helper()
	var buf bytes.Buffer
	zipped := gzip.NewWriter(&buf)
	files := tar.NewWriter(zipped)
	for _, e := range entries {
		if err := files.WriteHeader(&tar.Header{Name: e.name, Mode: 0o755, Size: int64(len(e.text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := files.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	files.Close()
	zipped.Close()
	path = filepath.Join(t.TempDir(), "release.tgz")
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := sumFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, sum
}

// pinned makes the archive a known release for one test.
func pinned(t *testing.T, version, sum string) {
	t.Helper()
	before := Pins
	Pins = append([]Pin{{Version: version, Archive: map[string]string{"amd64": sum}}}, before...)
	t.Cleanup(func() { Pins = before })
}

func TestInstallAPinnedArchive(t *testing.T) {
	path, sum := writeArchive(t, release("1.99.0"))
	pinned(t, "1.99.0", sum)
	dir := filepath.Join(t.TempDir(), "vmm")
	if err := os.MkdirAll(filepath.Join(dir, stagingPrefix+"left"), 0o700); err != nil { // by one that was killed
		t.Fatal(err)
	}
	for range 2 { // again, over itself
		done, err := Install(t.Context(), Options{Dir: dir, Source: path, Arch: "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		if done.Version != "1.99.0" || !done.Verified || done.Firecracker != filepath.Join(dir, "1.99.0/firecracker") || len(done.SHA256) != 2 {
			t.Errorf("%+v", done)
		}
		if info, err := os.Stat(done.Jailer); err != nil || info.Mode() != 0o755 {
			t.Errorf("the jailer: %v, %v", info, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestInstallByTheCallersChecksum(t *testing.T) {
	path, sum := writeArchive(t, release("1.98.0"))
	dir := t.TempDir()
	if _, err := Install(t.Context(), Options{Dir: dir, Source: path, Arch: "amd64"}); err == nil || !strings.Contains(err.Error(), sum) {
		t.Errorf("unknown: err = %v, want the checksum named", err)
	}
	if _, err := Install(t.Context(), Options{Dir: dir, Source: path, Arch: "amd64", SHA256: strings.Repeat("0", 64)}); err == nil {
		t.Error("a wrong checksum is accepted")
	}
	done, err := Install(t.Context(), Options{Dir: dir, Source: path, Arch: "amd64", SHA256: strings.ToUpper(sum)})
	if err != nil || done.Version != "1.98.0" || !done.Verified {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestInstallAFolderOnlyWhenAccepted(t *testing.T) {
	from := t.TempDir()
	for _, name := range programs {
		if err := os.WriteFile(filepath.Join(from, name), []byte(program(name, "1.97.0")), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if _, err := Install(t.Context(), Options{Dir: dir, Source: from, Arch: "amd64"}); err == nil {
		t.Error("it is installed unasked")
	}
	done, err := Install(t.Context(), Options{Dir: dir, Source: from, Arch: "amd64", Unverified: true})
	if err != nil || done.Version != "1.97.0" || done.Verified {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestRefused(t *testing.T) {
	dir := "release-v1.96.0-x86_64/"
	fc, j := entry{dir + "firecracker-v1.96.0-x86_64", program("Firecracker", "1.96.0")}, entry{dir + "jailer-v1.96.0-x86_64", program("Jailer", "1.96.0")}
	for name, entries := range map[string][]entry{
		"no jailer":      {fc},
		"twice":          {fc, fc, j},
		"another CPU":    {{dir + "firecracker-v1.96.0-aarch64", "x"}, {dir + "jailer-v1.96.0-aarch64", "x"}},
		"mixed versions": {fc, {j.name, program("Jailer", "1.95.0")}},
		"another inside": {{fc.name, program("Firecracker", "1.95.0")}, {j.name, program("Jailer", "1.95.0")}},
		"no program":     {{fc.name, "x"}, j},
		"says nothing":   {{fc.name, "#!/bin/sh\n"}, j},
		"odd version":    {{fc.name, program("Firecracker", "../../etc")}, {j.name, program("Jailer", "../../etc")}},
	} {
		path, sum := writeArchive(t, entries)
		pinned(t, "1.96.0", sum)
		to := t.TempDir()
		if done, err := Install(t.Context(), Options{Dir: to, Source: path, Arch: "amd64"}); err == nil {
			t.Errorf("%s: installed %+v", name, done)
		}
		if left, err := os.ReadDir(to); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind %v, %v", name, left, err)
		}
	}
	for _, source := range []string{"1.2.3", "latest", "/no/such/archive.tgz"} {
		if _, err := Install(t.Context(), Options{Dir: t.TempDir(), Source: source, Arch: "amd64"}); err == nil {
			t.Errorf("%s is installed", source)
		}
	}
	if _, err := Install(t.Context(), Options{Dir: t.TempDir(), Source: "1.16.1", Arch: "riscv64"}); err == nil {
		t.Error("there is a Firecracker for riscv64")
	}
}

// TestDownload: what comes over the net is verified like what is at hand. curl
// is the test's own.
func TestDownload(t *testing.T) {
	path, sum := writeArchive(t, release("1.94.0"))
	other, _ := writeArchive(t, release("1.93.0"))
	pinned(t, "1.94.0", sum)
	bin := t.TempDir()
	script := "#!/bin/sh\nfor a; do [ \"$last\" = --output ] && out=$a; last=$a; done\n" +
		"echo \"$last\" > " + bin + "/url\ncp \"$(cat " + bin + "/serves)\" \"$out\"\n"
	if err := os.WriteFile(filepath.Join(bin, "curl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	serve := func(path string) {
		if err := os.WriteFile(filepath.Join(bin, "serves"), []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	serve(path)
	done, err := Install(t.Context(), Options{Dir: t.TempDir(), Arch: "amd64"})
	if err != nil || done.Version != "1.94.0" || !done.Verified {
		t.Errorf("%+v, %v", done, err)
	}
	url, err := os.ReadFile(filepath.Join(bin, "url"))
	want := "https://github.com/firecracker-microvm/firecracker/releases/download/v1.94.0/firecracker-v1.94.0-x86_64.tgz\n"
	if err != nil || string(url) != want {
		t.Errorf("asked for %q, %v", url, err)
	}
	serve(other)
	if done, err := Install(t.Context(), Options{Dir: t.TempDir(), Source: "v1.94.0", Arch: "amd64"}); err == nil {
		t.Errorf("another release was installed: %+v", done)
	}
}

func TestPinsAreWhole(t *testing.T) {
	for _, p := range Pins {
		for arch, machine := range machines {
			if len(p.Archive[arch]) != 64 {
				t.Errorf("%s has no checksum for %s", p.Version, machine)
			}
		}
	}
}
