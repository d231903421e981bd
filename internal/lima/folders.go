package lima

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/tenant"
)

// foldersDir holds the copies of this host's folders that are volumes inside,
// each at the path that it has here. They are not at that path itself, where a
// flake may be, of which git ignores some.
const foldersDir = "/var/lib/mvm-lima/folders"

// bringVolume copies the folder that a --volume names, and names it as it is
// known inside. Of what is none, the command inside will say so.
func (vm *VM) bringVolume(ctx context.Context, text, dir string) (string, error) {
	v, err := tenant.ParseVolume(text)
	if err != nil || v.Folder == "" {
		return text, nil
	}
	v.Folder, err = vm.bringFolder(ctx, v.Folder, dir)
	return v.String(), err
}

func (vm *VM) bringFolder(ctx context.Context, folder, dir string) (string, error) {
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(dir, folder)
	}
	folder = filepath.Clean(folder)
	info, err := os.Stat(folder)
	if err != nil { // for the command inside to say
		return folder, nil
	}
	if !info.IsDir() { // which nothing inside could tell from one that is not there
		return "", &Error{Kind: fault.ErrInput, Msg: folder + " is no folder", Hint: "name a folder of this host"}
	}
	s := Source{Top: foldersDir + folder}
	hash := sha256.New()
	if err := writeFolder(hash, folder); err != nil {
		return "", fmt.Errorf("cannot copy the folder %s: %w", folder, err)
	}
	s.Hash = hex.EncodeToString(hash.Sum(nil))
	if _, err := vm.send(ctx, s, func(w io.Writer) error { return writeFolder(w, folder) }); err != nil {
		return "", fmt.Errorf("cannot copy the folder %s into the Lima VM: %w", folder, err)
	}
	return s.Top, nil
}

// refreshFolders copies the folders again that the VM knows as volumes: they are
// copied at each start.
func (vm *VM) refreshFolders(ctx context.Context, volumes []shownVolume) error {
	for _, v := range volumes {
		folder, ours := strings.CutPrefix(v.Folder, foldersDir+"/")
		if !ours {
			continue
		}
		if _, err := os.Stat("/" + folder); errors.Is(err, fs.ErrNotExist) {
			vm.Say("/%s is not on this host: the guest gets what the Lima VM has of it", folder)
			continue
		}
		if _, err := vm.bringFolder(ctx, "/"+folder, "/"); err != nil {
			return err
		}
	}
	return nil
}

// shownVolume is what is of interest of a volume.
type shownVolume struct {
	Folder string `json:"folder"`
}

// writeFolder writes all that is below folder as receiveScript reads it, with
// owners by number, modes and times. Links are written as links; sockets, pipes
// and devices are left out, as they are on Linux.
func writeFolder(w io.Writer, folder string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(folder, func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = addToFolder(tw, folder, name)
		}
		if errors.Is(err, fs.ErrNotExist) && name != folder {
			return nil // somebody works there
		}
		return err
	})
	if err != nil {
		return err
	}
	return writeEnd(tw)
}

func addToFolder(tw *tar.Writer, folder, name string) error {
	look := os.Lstat
	if name == folder {
		look = os.Stat
	}
	info, err := look(name)
	if err != nil {
		return err
	}
	target, kind := "", info.Mode().Type()
	switch kind {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if target, err = os.Readlink(name); err != nil {
			return err
		}
	default:
		return nil
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(folder, name)
	if err != nil {
		return err
	}
	h.Format, h.Name = tar.FormatPAX, path.Join("tree", filepath.ToSlash(rel))
	h.Mode &= 0o777
	h.Uname, h.Gname, h.AccessTime, h.ChangeTime = "", "", time.Time{}, time.Time{}
	if kind == fs.ModeDir {
		h.Name += "/"
	}
	if kind != 0 {
		return tw.WriteHeader(h)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.CopyN(tw, f, h.Size); err != nil {
		return fmt.Errorf("%s changed while it was read: %w", name, err)
	}
	return nil
}
