package supervisor

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// Volumes are made once, grown and locked; copies of folders are made at each
// start and end with it.
func TestVolumes(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(st.RunDir) })
	folder := t.TempDir()
	s := &supervisor{store: st, t: st.Tenant("acme"), log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	start := func(volumes ...tenant.Volume) error {
		l := &launch{supervisor: s, state: tenant.State{UID: 12345, Spec: tenant.Spec{Volumes: volumes}}}
		return l.prepareVolumes(t.Context())
	}
	end := func() {
		t.Helper()
		var err error
		if s.down.Run(t.Context(), &err); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.t.FoldersDir()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("copies of folders outlive the run: %v", err)
		}
	}
	work, src := tenant.Volume{Mount: "/srv/work", SizeMiB: 16}, tenant.Volume{Mount: "/src", Folder: folder}
	if got := filepath.Base(s.t.Volume(work)); got != "srv+work.ext4" {
		t.Errorf("the volume is called %s", got)
	}
	stale := filepath.Join(s.t.FoldersDir(), "stale.ext4") // of a run that was killed
	if err := os.MkdirAll(s.t.FoldersDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var inode os.FileInfo
	for range 2 {
		if err := start(work, src); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what a killed run left is there: %v", err)
		}
		if _, err := volume.Lock(s.t.Volume(work)); !errors.Is(err, volume.ErrInUse) {
			t.Errorf("it is not locked: %v", err)
		}
		if info, err := os.Stat(s.t.Volume(src)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the copy: %v, %v", info, err)
		}
		info, err := os.Stat(s.t.Volume(work))
		if err != nil || inode != nil && !os.SameFile(inode, info) {
			t.Errorf("it was made anew: %v", err)
		}
		inode = info
		end()
	}
	work.SizeMiB = 64
	if err := start(work); err != nil {
		t.Fatal(err)
	}
	end()
	if info, err := volume.Inspect(s.t.Volume(work)); err != nil || info.Size != 64<<20 || info.FileSystem < 60<<20 {
		t.Errorf("it has not grown: %+v, %v", info, err)
	}
	// One that has more than it is to have, as after a growth that was killed,
	// keeps it.
	work.SizeMiB = 32
	if err := start(work); err != nil {
		t.Fatal(err)
	}
	end()
	if info, err := volume.Inspect(s.t.Volume(work)); err != nil || info.Size != 64<<20 {
		t.Errorf("it has shrunk: %+v, %v", info, err)
	}
	missing := tenant.Volume{Mount: "/x", Folder: filepath.Join(folder, "gone")}
	inRoot := tenant.Volume{Mount: "/x", Folder: filepath.Dir(st.Root)}
	for name, c := range map[string]struct {
		volume tenant.Volume
		advice string
	}{
		"is gone":                   {missing, "make the folder again, or take the volume away: --volume none:/x"},
		"holds the state directory": {inRoot, ""},
	} {
		err := start(c.volume)
		var hinted interface{ Advice() string }
		if err == nil || errors.As(err, &hinted) != (c.advice != "") || c.advice != "" && hinted.Advice() != c.advice {
			t.Errorf("one that %s: %v, %v", name, err, hinted)
		}
		end()
	}
}
