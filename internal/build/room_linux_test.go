package build

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/diskspace"
)

// TestNoRoomToBegin: a disk that others have filled is no fault of the build's. It
// is refused, and not ended as one that filled the disk, whose store is removed.
func TestNoRoomToBegin(t *testing.T) {
	out := t.TempDir()
	if err := unix.Mount("small", out, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal("a small disk takes root: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(out, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(out, "others"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &builder{engine: Engine{Name: "docker", Path: "/bin/false"}, log: newNixLog(nil, io.Discard, time.Now())}
	err := b.watchRoom(t.Context(), out, func(err error) { t.Errorf("ended: %v", err) })
	if err == nil || errors.Is(err, diskspace.ErrFull) {
		t.Fatalf("err = %v", err)
	}
	var told *Error
	if err = b.explain(t.Context(), out, err); !errors.As(err, &told) || told.Kind != ErrHost || !strings.Contains(told.Msg, "too little room") {
		t.Errorf("err = %v", err)
	}
}
