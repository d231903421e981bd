package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// withWork gives acme a volume /work that was made, with something in it.
func withWork(t *testing.T, h *Host) tenant.Volume {
	t.Helper()
	v := tenant.Volume{Mount: "/srv/work", SizeMiB: 16}
	_, err := h.Set(t.Context(), "acme", "/", func(s *tenant.Spec) { s.ChangeVolumes([]tenant.Volume{v}) })
	if err == nil {
		_, err = volume.CreateData(t.Context(), h.Store.Tenant("acme").DataVolume(), tenant.DefaultDataMiB, 1, 1)
	}
	if err == nil {
		_, err = volume.CreateData(t.Context(), h.Store.Tenant("acme").Volume(v), v.SizeMiB, 1, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A volume beside the data is destroyed as a tenant is: kept aside, or wiped,
// and the same again finds it done. What was kept can be had back.
func TestDestroyVolume(t *testing.T) {
	h := newHost(t)
	v := withWork(t, h)
	own := h.Store.Tenant("acme")
	made, err := os.Stat(own.Volume(v))
	if err != nil {
		t.Fatal(err)
	}
	done, err := h.DestroyVolume(t.Context(), "acme", v.Mount, false)
	if err != nil || done.Already || done.Retained == "" {
		t.Fatalf("%+v, %v", done, err)
	}
	spec, err := h.Store.LoadSpec("acme")
	if _, named := spec.Volumes.At(v.Mount); err != nil || named {
		t.Errorf("the spec names it still: %v, %v", spec.Volumes, err)
	}
	kept, err := os.Stat(filepath.Join(done.Retained, "srv+work.ext4"))
	if err != nil || !os.SameFile(made, kept) {
		t.Errorf("another one is kept: %v", err)
	}
	if again, err := h.DestroyVolume(t.Context(), "acme", v.Mount, false); err != nil || !again.Already {
		t.Errorf("once more: %+v, %v", again, err)
	}
	name := filepath.Base(done.Retained)
	list, err := h.RetainedVolumes()
	if err != nil || len(list) != 1 || list[0].Name != name || !slices.Equal(list[0].Volumes, []string{v.Mount}) {
		t.Errorf("%+v, %v", list, err)
	}
	if whole, err := h.withData([]string{name}); err != nil || len(whole) > 0 {
		t.Errorf("it is taken for all that a tenant had: %v, %v", whole, err)
	}

	// A link that is there already is what a call has left that was killed.
	if err := os.Link(filepath.Join(done.Retained, "srv+work.ext4"), own.Volume(v)); err != nil {
		t.Fatal(err)
	}
	back, err := h.AdoptVolume(t.Context(), "acme", name)
	if err != nil || back.String() != "16M:/srv/work" {
		t.Fatalf("%v, %v", back, err)
	}
	if spec, err = h.Store.LoadSpec("acme"); err != nil || spec.Volumes.Kept(v.Mount) != 0 {
		t.Errorf("the spec has %v, %v", spec.Volumes, err)
	}
	if now, err := os.Stat(own.Volume(v)); err != nil || !os.SameFile(made, now) {
		t.Errorf("another one came back: %v", err)
	}
	if list, err := h.RetainedVolumes(); err != nil || len(list) > 0 {
		t.Errorf("still kept: %+v, %v", list, err)
	}
	if err := os.Mkdir(done.Retained, 0o700); err != nil { // its end, where the call was killed before it
		t.Fatal(err)
	}
	for range 2 {
		if again, err := h.AdoptVolume(t.Context(), "acme", name); err != nil || len(again) > 0 {
			t.Errorf("adopted once more: %v, %v", again, err)
		}
	}
	if list, err := h.RetainedVolumes(); err != nil || len(list) > 0 {
		t.Errorf("still kept: %+v, %v", list, err)
	}

	if done, err = h.DestroyVolume(t.Context(), "acme", v.Mount, true); err != nil || done.Already || done.Retained != "" {
		t.Errorf("wiped: %+v, %v", done, err)
	}
	if list, err := h.RetainedVolumes(); err != nil || len(list) > 0 {
		t.Errorf("wiped and kept: %+v, %v", list, err)
	}
	if left, err := mountsIn(own.VolumesDir()); err != nil || !slices.Equal(left, []string{tenant.DataMount}) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Two volumes of one place: one on its way out when a call was killed, and one
// that was made since. Neither gets lost.
func TestDestroyVolumeTwiceBegun(t *testing.T) {
	h := newHost(t)
	v := withWork(t, h)
	own := h.Store.Tenant("acme")
	if err := os.Mkdir(own.GoingDir(v), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(own.Volume(v), own.GoingVolume(v)); err != nil {
		t.Fatal(err)
	}
	if _, err := volume.CreateData(t.Context(), own.Volume(v), 32, 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := h.DestroyVolume(t.Context(), "acme", v.Mount, false); err != nil {
		t.Fatal(err)
	}
	images, err := filepath.Glob(filepath.Join(h.Store.RetainedDir(), "acme-*", "srv+work.ext4"))
	if err != nil || len(images) != 2 {
		t.Errorf("kept: %v, %v", images, err)
	}
	if there, err := h.VolumeRemains("acme", v.Mount); err != nil || there {
		t.Errorf("something remains: %v, %v", there, err)
	}
}

func TestVolumesThatCannotBeDestroyedOrAdopted(t *testing.T) {
	h := newHost(t)
	v := withWork(t, h)
	var input *tenant.InputError
	for _, mount := range []string{"/data", "work", "/etc/x", "/../x"} {
		if _, err := h.DestroyVolume(t.Context(), "acme", mount, false); !errors.As(err, &input) {
			t.Errorf("%s: %v", mount, err)
		}
	}
	whole := filepath.Join(h.Store.RetainedDir(), "acme-20260101T000000.000Z")
	other := filepath.Join(h.Store.RetainedDir(), "other-20260101T000000.000Z")
	second := filepath.Join(h.Store.RetainedDir(), "acme-20260102T000000.000Z")
	for _, file := range []string{whole + "/data.ext4", other + "/srv+work.ext4", second + "/srv+work.ext4"} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"nothing", "../tenants/acme/volumes", filepath.Base(other), filepath.Base(whole)} {
		if _, err := h.AdoptVolume(t.Context(), "acme", name); !errors.As(err, &input) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.AdoptVolume(t.Context(), "acme", filepath.Base(second)); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "it has a volume "+v.Mount+" already") {
		t.Errorf("one that it has: %v", err)
	}
}

// At rest a volume grows at once where it was made, and is made larger where it
// was not.
func TestGrowVolume(t *testing.T) {
	h := newHost(t)
	v := withWork(t, h)
	image := h.Store.Tenant("acme").Volume(v)
	v.SizeMiB = 32
	for _, changes := range []int{1, 0} {
		done, err := h.GrowVolume(t.Context(), "acme", v)
		if err != nil || len(done.Now) != changes || len(done.Next) > 0 || done.Note != "" {
			t.Errorf("%+v, %v", done, err)
		}
	}
	if info, err := volume.Inspect(image); err != nil || info.Size != 32<<20 || info.Lags() {
		t.Errorf("it has not grown: %+v, %v", info, err)
	}
	if err := volume.Extend(image, 48<<20); err != nil { // under a guest, which could not follow
		t.Fatal(err)
	}
	if done, err := h.GrowVolume(t.Context(), "acme", v); err != nil || !strings.Contains(done.Note, "the disk of the volume /srv/work has grown; its file system grows at the next start: the guest is created") {
		t.Errorf("%+v, %v", done, err)
	}
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	v.SizeMiB = 64
	if done, err := h.GrowVolume(t.Context(), "acme", v); err != nil || len(done.Now) != 1 {
		t.Errorf("one that was never made: %+v, %v", done, err)
	}
	var input *tenant.InputError
	for _, v := range []tenant.Volume{{Mount: v.Mount, SizeMiB: 32}, {Mount: "/other", SizeMiB: 64}, {Mount: tenant.DataMount, SizeMiB: 32}} {
		if _, err := h.GrowVolume(t.Context(), "acme", v); !errors.As(err, &input) {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// Of a tenant that runs, the volumes grow now that its run has, and the others
// at the next one.
func TestWhenVolumesGrow(t *testing.T) {
	has := tenant.Spec{Volumes: tenant.Volumes{{Mount: "/a", SizeMiB: 16}, {Mount: "/new", SizeMiB: 16}}}
	ran := tenant.Spec{Volumes: tenant.Volumes{{Mount: "/a", SizeMiB: 16}, {Mount: "/new", Folder: "/x"}}}
	to := tenant.Spec{Volumes: tenant.Volumes{{Mount: "/a", SizeMiB: 32}, {Mount: "/new", SizeMiB: 32}}}
	s := Status{Phase: tenant.Running, Spec: has, State: tenant.State{Spec: ran}}
	done := effects(s, to)
	now, next := []string{"volumes 16M:/a 16M:/new → 32M:/a 16M:/new"}, []string{"volumes 32M:/a 16M:/new → 32M:/a 32M:/new"}
	if !slices.Equal(done.Now, now) || !slices.Equal(done.Next, next) {
		t.Errorf("now %q, next %q", done.Now, done.Next)
	}
	s.Phase = tenant.Stopped
	if done := effects(s, to); len(done.Now) != 1 || len(done.Next) > 0 {
		t.Errorf("at rest: now %q, next %q", done.Now, done.Next)
	}
}

// Only of a folder that can be read can it be said that no volume is in it.
func TestVolumesThatCannotBeLookedFor(t *testing.T) {
	dir := t.TempDir()
	file, loop := filepath.Join(dir, "file"), filepath.Join(dir, "loop")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(loop, loop)); err != nil {
		t.Fatal(err)
	}
	for path, readable := range map[string]bool{dir: true, file: true, filepath.Join(dir, "missing"): true, loop: false} {
		if mounts, err := mountsIn(path); len(mounts) > 0 || (err == nil) != readable {
			t.Errorf("%s: %v, %v", path, mounts, err)
		}
	}
}
