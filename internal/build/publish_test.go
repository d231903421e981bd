package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/source"
)

// tree makes files in a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	addFiles(t, dir, files)
	return dir
}

func addFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	all := fstest.MapFS{}
	for name, content := range files {
		all[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	if err := os.CopyFS(dir, all); err != nil {
		t.Fatal(err)
	}
}

// artifacts writes what a container would into a new folder.
func artifacts(t *testing.T) string {
	t.Helper()
	out := tree(t, map[string]string{
		Kernel: "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + "\x3e\x00" + strings.Repeat("k", 1000),
		Initrd: "initrd", BaseConfig: "{}",
	})
	rootfs := filepath.Join(out, Rootfs)
	if got, err := exec.Command("/sbin/mkfs.ext4", "-q", "-F", rootfs, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	return out
}

func publishIn(t *testing.T, images string) (*published, Manifest) {
	t.Helper()
	p, err := publish(artifacts(t), images, "x86_64-linux", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	return p, Manifest{Image: p.hash, Artifacts: p.artifacts}
}

// TestPublishForHundredTenants publishes what a hundred builds made of one
// profile: it takes the disk of one.
func TestPublishForHundredTenants(t *testing.T) {
	made, images := artifacts(t), filepath.Join(t.TempDir(), "images")
	if err := os.WriteFile(filepath.Join(made, Initrd), bytes.Repeat([]byte("initrd"), 1<<17), 0o644); err != nil {
		t.Fatal(err)
	}
	var one int64
	for i := range 100 {
		out := filepath.Join(t.TempDir(), "out")
		if got, err := exec.Command("cp", "-a", made, out).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, got)
		}
		p, err := publish(out, images, "x86_64-linux", nil)
		if err != nil {
			t.Fatal(err)
		}
		p.release()
		if p.isNew != (i == 0) {
			t.Errorf("tenant %d: new is %v", i, p.isNew)
		}
		if i == 0 {
			if one, err = atomicfile.DiskUsage(images); err != nil {
				t.Fatal(err)
			}
		}
	}
	hundred, err := atomicfile.DiskUsage(images)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("one tenant takes %d bytes of disk, a hundred %d", one, hundred)
	if one < 6<<17 || hundred > one+64<<10 { // folders may grow
		t.Errorf("one tenant takes %d bytes of disk, a hundred %d", one, hundred)
	}
}

func TestPublish(t *testing.T) {
	images := filepath.Join(t.TempDir(), "images")
	p, m := publishIn(t, images)
	if !p.isNew || len(p.artifacts) != 4 {
		t.Errorf("published = %+v", p)
	}
	// The name is what anybody can compute with sha256sum.
	cmd := exec.Command("sh", "-c", "sha256sum kernel rootfs.ext4 initrd fc-base.json | sha256sum")
	cmd.Dir = filepath.Join(images, p.hash)
	if got, err := cmd.Output(); err != nil || !strings.HasPrefix(string(got), p.hash) {
		t.Errorf("sha256sum says %s, %v, want %s", got, err, p.hash)
	}
	if err := Verify(m, images, VerifyFull); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(images); err != nil || len(list) != 1 {
		t.Errorf("images = %v, %v", list, err)
	}
}

func TestPublishRefuses(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"missing kernel": func(dir string) error { return os.Remove(filepath.Join(dir, Kernel)) },
		"link": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, Kernel)), os.Symlink("/etc/passwd", filepath.Join(dir, Kernel)))
		},
		"second name": func(dir string) error { return os.Link(filepath.Join(dir, Kernel), filepath.Join(dir, "keep")) },
		"cut rootfs":  func(dir string) error { return os.Truncate(filepath.Join(dir, Rootfs), 500_000) },
	} {
		t.Run(name, func(t *testing.T) {
			out, images := artifacts(t), filepath.Join(t.TempDir(), "images")
			if err := spoil(out); err != nil {
				t.Fatal(err)
			}
			_, err := publish(out, images, "x86_64-linux", nil)
			if err == nil {
				t.Error("it was accepted")
			}
			if list, err := os.ReadDir(images); err != nil || len(list) != 0 {
				t.Errorf("images = %v, %v", list, err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	images := filepath.Join(t.TempDir(), "images")
	_, m := publishIn(t, images)
	kernel := filepath.Join(images, m.Image, Kernel)
	// The clock may be too coarse to vouch for files this new: a full check
	// later than its grain makes stamps that count.
	time.Sleep(2 * clockGrain)
	if err := Verify(m, images, VerifyFull); err != nil {
		t.Fatal(err)
	}
	if !readStamps(filepath.Join(images, m.Image)).vouchesFor(kernel, m.Artifacts[0]) {
		t.Error("an unchanged file is not vouched for")
	}
	before, err := os.Stat(kernel)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	evil := bytes.Replace(data, []byte("kkkk"), []byte("evil"), 1)
	for name, tamper := range map[string]func() error{
		// As a patient attacker would: same size, same mtime.
		"in place": func() error {
			return errors.Join(os.WriteFile(kernel, evil, 0), os.Chtimes(kernel, before.ModTime(), before.ModTime()))
		},
		"replaced": func() error {
			return errors.Join(os.WriteFile(kernel+".new", evil, 0o444), os.Chtimes(kernel+".new", before.ModTime(), before.ModTime()),
				os.Rename(kernel+".new", kernel))
		},
		"shortened": func() error { return os.Truncate(kernel, 10) },
		"linked":    func() error { return errors.Join(os.Remove(kernel), os.Symlink("/etc/hostname", kernel)) },
		"removed":   func() error { return os.Remove(kernel) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := tamper(); err != nil {
				t.Fatal(err)
			}
			for _, mode := range []VerifyMode{VerifyQuick, VerifyFull} {
				err := Verify(m, images, mode)
				if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "kernel") {
					t.Errorf("mode %d: %v", mode, err)
				}
			}
			if err := errors.Join(os.RemoveAll(kernel), os.WriteFile(kernel, data, 0o444)); err != nil {
				t.Fatal(err)
			}
			if err := Verify(m, images, VerifyQuick); err != nil {
				t.Errorf("after it was put back: %v", err)
			}
		})
	}
}

func TestVerifyRefusesForgedManifests(t *testing.T) {
	images := filepath.Join(t.TempDir(), "images")
	_, m := publishIn(t, images)
	for name, forge := range map[string]func(*Manifest){
		"image":    func(m *Manifest) { m.Image = "../" + m.Image },
		"hash":     func(m *Manifest) { m.Artifacts[0].SHA256 = strings.Repeat("0", 64) },
		"artifact": func(m *Manifest) { m.Artifacts[0].Name = "../../etc/shadow" },
		"fewer":    func(m *Manifest) { m.Artifacts = m.Artifacts[1:] },
	} {
		forged := m
		forged.Artifacts = append([]Artifact(nil), m.Artifacts...)
		forge(&forged)
		if err := Verify(forged, images, VerifyQuick); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGC(t *testing.T) {
	root := t.TempDir()
	images, src, builds := filepath.Join(root, "images"), filepath.Join(root, "src"), filepath.Join(root, "build")
	p, m := publishIn(t, images)
	p.release()
	snapshot := func(text string) source.Snapshot {
		s, err := source.Take(t.Context(), tree(t, map[string]string{"flake.nix": text}), src)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	used, unused, building := snapshot("used"), snapshot("unused"), snapshot("building")
	held, err := atomicfile.HoldDir(building.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, dir := range []string{"gone", "acme"} {
		addFiles(t, builds, map[string]string{dir + "/out/x": "x"})
	}
	addFiles(t, images, map[string]string{".tmp-killed/kernel": "half"})
	req := GCRequest{
		SrcDir: src, BuildDir: builds, ImagesDir: images,
		Images: []string{m.Image}, Snapshots: []string{used.Hash}, Tenants: map[string]StoreUse{"acme": {}}, DryRun: true,
	}
	want := "leftover killed, snapshot " + unused.Hash + ", build gone"
	for range 2 {
		items, err := GC(t.Context(), nil, req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range items {
			got = append(got, i.Kind+" "+i.Name)
			if i.Bytes == 0 {
				t.Errorf("%+v frees nothing", i)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("items = %q, want %q", got, want)
		}
		req.DryRun = false
	}
	for path, exists := range map[string]bool{
		unused.Path: false, used.Path: true, building.Path: true, filepath.Join(builds, "gone"): false,
		filepath.Join(builds, "acme"): true, filepath.Join(images, m.Image): true,
	} {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) == exists {
			t.Errorf("%s: %v, want it there: %v", path, err, exists)
		}
	}
	req.Images = nil
	if items, err := GC(t.Context(), nil, req); err != nil || len(items) != 1 || items[0].Name != m.Image {
		t.Errorf("items = %v, %v", items, err)
	}
}

func TestStampsSurviveAsJSON(t *testing.T) {
	images := filepath.Join(t.TempDir(), "images")
	_, m := publishIn(t, images)
	data, err := os.ReadFile(filepath.Join(images, m.Image, stampName))
	if err != nil {
		t.Fatal(err)
	}
	var s stampFile
	if err := json.Unmarshal(data, &s); err != nil || len(s) != 4 {
		t.Errorf("stamps = %+v, %v", s, err)
	}
}
