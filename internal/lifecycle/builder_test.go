package lifecycle

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/fault"
)

// An image that nobody named is not the default one.
func TestNoImageIsBadInput(t *testing.T) {
	if _, err := (&Host{}).SetBuilderImage(t.Context(), build.Engine{}, ""); fault.Code(err) != 2 || fault.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}

// A folder that is said to hold the archive is not filled instead.
func TestBuilderArchiveIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "builder")
	if _, err := BuilderArchive(dir); fault.Code(err) != 2 || fault.Hint(err) != "mvm builder fetch --to "+dir+" makes it" {
		t.Errorf("%v; %s", err, fault.Hint(err))
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder was made")
	}
	path := build.LocalImagePath(dir, build.LocalImageOptions{})
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := BuilderArchive(dir); err != nil || got != path {
		t.Errorf("%s, %v", got, err)
	}
}
