package volume

import (
	"errors"
	"strings"
	"testing"
)

// An image that was extended under its guest has a file system of its size
// after the next start.
func TestAcquireGrowsAfterExtend(t *testing.T) {
	path := crashed(t, 64)
	for range 2 {
		if err := Extend(path, 200*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := Extend(path, 100*mib); !errors.Is(err, ErrShrink) {
		t.Errorf("shrink: %v", err)
	}
	if err := Grow(t.Context(), path, 100); !errors.Is(err, ErrShrink) {
		t.Errorf("shrink at rest: %v", err)
	}
	f, report, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Replayed || !strings.Contains(report.Note, "grown to 200 MiB") {
		t.Errorf("%+v", report)
	}
	if again, err := Lock(path); !errors.Is(err, ErrInUse) {
		t.Errorf("the grown image is not locked: %v, %v", again, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	checkClean(t, path)
	checkOwner(t, path)
	if info, err := Inspect(path); err != nil || info.Size != 200*mib || info.FileSystem != info.Size {
		t.Errorf("%+v, %v", info, err)
	}
	if got := content(t, path, "/kept"); string(got) != "fsynced" {
		t.Errorf("the file holds %q", got)
	}
	if report, err := PrepareData(t.Context(), path); err != nil || report.Note != "" {
		t.Errorf("once more: %+v, %v", report, err)
	}
}
