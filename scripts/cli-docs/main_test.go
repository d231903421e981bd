package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/cli"
)

func TestReferenceIsCurrent(t *testing.T) {
	have, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != markdown(cli.Command()) {
		t.Error("docs/cli.md is not what the commands say: run make docs")
	}
}

func TestJSONIsCurrent(t *testing.T) {
	have, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := jsonPage("../..")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Error("docs/json.md is not what the types say: run make docs")
	}
}

func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if err := manPages(cli.Command(), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mvm.1", "mvm-tenant-run.1"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() < 200 {
			t.Errorf("no man page %s (%v)", name, err)
		}
	}
}
