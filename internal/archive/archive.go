// Package archive carries files between this host and a guest as a tar stream.
//
// It owns what may be in such a stream: regular files and folders. A guest is
// not trusted: whatever its stream says, nothing is written outside of the
// folder given, nothing gets another owner or special bits, no links, devices or
// pipes are made, and the disk is not filled.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/auser/mvm/internal/diskspace"
)

// ErrNothing means that a stream held nothing.
var ErrNothing = errors.New("nothing came")

// Pack writes the file or folder at from to w, under the name given. A link that
// is named itself is followed. Of a folder, nothing outside of it is read, even if
// somebody else puts links in the place of what is in it meanwhile.
func Pack(w io.Writer, from, name string) error {
	tw := tar.NewWriter(w)
	if err := pack(tw, from, name); err != nil {
		return err
	}
	return tw.Close()
}

func pack(tw *tar.Writer, from, name string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		f, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return packFile(tw, f, name)
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := path.Join(name, p)
		if d.Type().IsRegular() {
			f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			return packFile(tw, f, to)
		}
		if !d.IsDir() {
			return notPacked(filepath.Join(from, p))
		}
		info, err := root.Lstat(p)
		if err != nil {
			return err
		}
		h := header(info, to+"/")
		h.Typeflag = tar.TypeDir
		return tw.WriteHeader(h)
	})
}

// packFile packs f, which need not be what was there before it was opened.
func packFile(tw *tar.Writer, f *os.File, name string) error {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return notPacked(f.Name())
	}
	h := header(info, name)
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(tw, f, h.Size)
	return err
}

func notPacked(path string) error { return fmt.Errorf("%s is neither a file nor a folder", path) }

func header(info fs.FileInfo, name string) *tar.Header {
	return &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Format: tar.FormatPAX}
}

// Unpack writes the one file or folder of the stream into dir, under the name
// given, whatever it is called in the stream.
func Unpack(r io.Reader, dir, name string) error {
	root, err := os.OpenRoot(dir) // nothing leads out of it, links neither
	if err != nil {
		return err
	}
	defer root.Close()
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	u := unpacker{root, tar.NewReader(r), diskspace.Allowance{F: top}}
	for n := 0; ; n++ {
		h, err := u.Next()
		if errors.Is(err, io.EOF) {
			if n == 0 {
				return ErrNothing
			}
			// What follows is padding; a writer that cannot finish would fail.
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return fmt.Errorf("cannot understand what came: %w", err)
		}
		if err := u.unpack(h, name); err != nil {
			return err
		}
	}
}

// unpacker writes what is in a stream below root, as long as there is room.
type unpacker struct {
	root *os.Root
	*tar.Reader
	room diskspace.Allowance
}

// ofEntry is what a file or folder takes of a disk beside its content.
const ofEntry = 4096

func (u *unpacker) unpack(h *tar.Header, name string) error {
	_, below, _ := strings.Cut(path.Clean(h.Name), "/")
	to := path.Join(name, below)
	if !filepath.IsLocal(h.Name) || !filepath.IsLocal(to) {
		return fmt.Errorf("it names %q, which is no place in a folder", h.Name)
	}
	if err := u.room.Take(ofEntry); err != nil {
		return err
	}
	mode := fs.FileMode(h.Mode) & 0o777
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.root.Mkdir(to, mode|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeReg:
		f, err := u.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(takingRoom{f, &u.room}, u)
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("%q is neither a file nor a folder", h.Name)
}

// takingRoom writes where there is room for it.
type takingRoom struct {
	io.Writer
	room *diskspace.Allowance
}

func (w takingRoom) Write(p []byte) (int, error) {
	if err := w.room.Take(int64(len(p))); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}
