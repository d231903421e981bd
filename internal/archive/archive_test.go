package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	from := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(from, "a", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "a", "run"), []byte("#!/bin/sh\n"), 0o750); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := Pack(&stream, from, "other"); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := Unpack(&stream, to, "renamed"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(to, "renamed", "a", "run"))
	if err != nil || string(data) != "#!/bin/sh\n" {
		t.Errorf("got %q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(to, "renamed", "a", "run")); err != nil || info.Mode() != 0o750 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(to, "renamed", "a", "empty")); err != nil {
		t.Error(err)
	}
}

func TestPackRefusesPipesAndLinksInside(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"link out":      func(path string) error { return os.Symlink("/etc/shadow", path) },
		"link to file":  func(path string) error { return os.Symlink("file", path) },
		"dangling link": func(path string) error { return os.Symlink("nothing", path) },
		"pipe":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"socket": func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "it")
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), put(path)); err != nil {
			t.Fatal(err)
		}
		if err := Pack(&bytes.Buffer{}, dir, "x"); err == nil || err.Error() != path+" is neither a file nor a folder" {
			t.Errorf("%s inside a folder: %v", name, err)
		}
	}
}

// A link that is named itself is followed; a pipe is refused, not waited for.
func TestPackWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644), os.Symlink("file", link), syscall.Mkfifo(pipe, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := Pack(&stream, link, "x"); err != nil || !bytes.Contains(stream.Bytes(), []byte("content")) {
		t.Errorf("a link that is named: %v", err)
	}
	if err := Pack(&bytes.Buffer{}, pipe, "x"); err == nil {
		t.Error("a pipe was packed")
	}
}

// TestHostileStream is what a guest that wants to reach the host could send.
func TestHostileStream(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"parent":           {{Name: "x/../../escaped", Typeflag: tar.TypeReg, Mode: 0o644}},
		"absolute":         {{Name: "/escaped", Typeflag: tar.TypeReg, Mode: 0o644}},
		"link":             {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}},
		"hard link":        {{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}},
		"device":           {{Name: "x", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"through existing": {{Name: "x/out/file", Typeflag: tar.TypeReg, Mode: 0o644}},
		"nothing":          {},
	} {
		t.Run(name, func(t *testing.T) {
			outside, to := t.TempDir(), t.TempDir()
			if err := os.Mkdir(filepath.Join(to, "x"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(to, "x", "out")); err != nil {
				t.Fatal(err)
			}
			var stream bytes.Buffer
			w := tar.NewWriter(&stream)
			for _, h := range headers {
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := Unpack(&stream, to, "x"); err == nil {
				t.Error("it was taken")
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("outside there is %v (%v)", left, err)
			}
		})
	}
}

func TestSetuidIsDropped(t *testing.T) {
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	if err := w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1234}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := Unpack(&stream, to, "x"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(to, "x")); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
}
