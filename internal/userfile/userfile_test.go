package userfile

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fault"
)

func TestBadNamesAreBadInput(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	opens := func(f *os.File, err error) error {
		if err == nil {
			err = f.Close()
		}
		return err
	}
	for name, try := range map[string]func(string) error{
		"read":    func(path string) error { return opens(Open(path)) },
		"write":   func(path string) error { return opens(Create(path)) },
		"replace": CheckReplaceable,
	} {
		for path, says := range map[string]string{
			"": "name of a file is empty", dir: "is a directory", at("no/file"): "no such file", at("file/x"): "not a directory",
		} {
			err := try(path)
			if err == nil || !strings.Contains(err.Error(), says) || fault.Code(err) != 2 || fault.Hint(err) == "" {
				t.Errorf("%s %q: %v, exit %d, hint %q", name, path, err, fault.Code(err), fault.Hint(err))
			}
		}
	}
	if _, err := os.Stat(at("no")); err == nil {
		t.Error("a folder was made")
	}
}

func TestGoodNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := CheckReplaceable(path); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"longer", "short"} {
		f, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(text)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if f, err = Open(path); err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != text {
			t.Errorf("%q, %v", data, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := CheckReplaceable(path); err != nil {
		t.Error(err)
	}
}
