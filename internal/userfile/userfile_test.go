package userfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
		"replace": func(path string) error { _, err := Replaceable(path); return err },
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
	if to, err := Replaceable(path); err != nil || to != path {
		t.Errorf("%s, %v", to, err)
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
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		if to, err := Replaceable(name); err != nil || to != path {
			t.Errorf("%s becomes %s, %v", name, to, err)
		}
	}
}

// A pipe or a device is not replaced by a file, nor a link to one.
func TestOnlyFilesAreReplaced(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(pipe, pipe+"-link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, pipe + "-link", os.DevNull} {
		if to, err := Replaceable(path); fault.Code(err) != 2 || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("%s becomes %s, %v", path, to, err)
		}
	}
	lost := pipe + "-lost"
	if err := os.Symlink("nowhere", lost); err != nil {
		t.Fatal(err)
	}
	if to, err := Replaceable(lost); fault.Code(err) != 2 || !strings.Contains(err.Error(), lost+" is a link to what is not there") {
		t.Errorf("%s becomes %s, %v", lost, to, err)
	}
}
