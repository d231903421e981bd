package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// FolderOptions bound an image that is made from a folder, and say whose it is.
type FolderOptions struct {
	MaxBytes int64 // the most that the image may have
	UID, GID int
	Without  string // a folder that must not be found in the one that is copied
}

// Folder is what MakeFolder copied.
type Folder struct {
	Files   int   // folders and links included
	Bytes   int64 // of their content
	Skipped int   // sockets, pipes, devices, lost+found and what is mounted there
}

// MakeFolder makes an image at path, mode 0600, with a copy of the folder from,
// in place of what is there, and with room to write. It has no journal: nothing
// that is written to it is meant to be kept. A killed call leaves nothing at
// path, but perhaps a copy beside it, at path with ".files" behind, that the
// next call takes away.
//
// Nothing outside of the folder is read: links are copied as links, and what
// somebody puts in the place of a file meanwhile leads out of it neither. Owners
// (by number), modes and times are kept; special bits and attributes are not.
func MakeFolder(ctx context.Context, path, from string, o FolderOptions) (Folder, error) {
	done, err := makeFolder(ctx, path, from, o)
	if err != nil {
		return done, fmt.Errorf("cannot copy the folder %s: %w", from, err)
	}
	return done, nil
}

func makeFolder(ctx context.Context, path, from string, o FolderOptions) (done Folder, err error) {
	staging := path + ".files"
	if err := os.RemoveAll(staging); err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return done, err
	}
	c := copier{ctx: ctx, most: o.MaxBytes}
	if o.Without != "" {
		if c.without, err = os.Stat(o.Without); err != nil {
			return done, err
		}
	}
	if err := c.copy(from, staging); err != nil {
		return c.Folder, err
	}
	size := (c.blocks*folderBlock*17/16 + int64(c.Files)*inodeSize + folderSlack) / mib * mib
	if size > o.MaxBytes {
		return c.Folder, c.tooLarge()
	}
	d, err := newDraft(path)
	if err != nil {
		return c.Folder, err
	}
	defer d.discard(&err)
	if err := d.Truncate(size); err != nil {
		return c.Folder, err
	}
	if _, _, err := (tool{name: "mke2fs", args: c.args(staging), image: d.File}).run(ctx); err != nil {
		return c.Folder, err
	}
	// mke2fs makes lost+found and a root folder with a mode of its own.
	if err := debugfs(ctx, d.File, "rmdir lost+found", fmt.Sprintf("sif / mode 040%03o", c.top.Mode().Perm())); err != nil {
		return c.Folder, err
	}
	if err := d.Chown(o.UID, o.GID); err != nil {
		return c.Folder, err
	}
	return c.Folder, d.commit()
}

const (
	folderBlock = 4096
	// folderSlack is what the guest may write, and spareInodes in how many
	// files. The image is sparse: neither takes room before it is used.
	folderSlack = 256 * mib
	spareInodes = 64 << 10

	// maxFolderFiles bounds a copy that somebody feeds with empty files.
	maxFolderFiles = 1 << 20

	lostFound = "lost+found" // which mke2fs makes
)

// folderFeatures are those of a data volume without the journal.
const folderFeatures = "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg," +
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

func (c *copier) args(staging string) []string {
	owner := c.top.Sys().(*syscall.Stat_t)
	return []string{
		"-q", "-F",
		"-O", folderFeatures,
		"-b", fmt.Sprint(folderBlock), "-I", fmt.Sprint(inodeSize), "-N", fmt.Sprint(c.Files + spareInodes),
		"-m", "0", "-e", "remount-ro", "-L", "folder",
		"-E", fmt.Sprintf("discard,lazy_itable_init=1,root_owner=%d:%d,no_copy_xattrs", owner.Uid, owner.Gid),
		"-d", staging,
		imageArg,
	}
}

// copier copies a folder file by file, each looked up from the folder's top
// without ever leaving it.
type copier struct {
	Folder
	ctx      context.Context
	from, to *os.Root
	top      fs.FileInfo
	most     int64 // bytes of the image
	without  fs.FileInfo
	blocks   int64
	folders  []folderTime
}

// folderTime is a folder whose time is set when nothing more comes into it.
type folderTime struct {
	name string
	time time.Time
}

func (c *copier) copy(from, to string) (err error) {
	if c.from, err = os.OpenRoot(from); err != nil {
		return err
	}
	defer c.from.Close()
	if c.to, err = os.OpenRoot(to); err != nil {
		return err
	}
	defer c.to.Close()
	if c.top, err = c.from.Stat("."); err != nil {
		return err
	}
	if err := fs.WalkDir(c.from.FS(), ".", c.visit); err != nil {
		return err
	}
	for _, f := range slices.Backward(c.folders) {
		if err := c.to.Chtimes(f.name, f.time, f.time); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) visit(name string, d fs.DirEntry, err error) error {
	if err == nil && name != "." {
		err = c.add(name)
	}
	if errors.Is(err, fs.ErrNotExist) && name != "." {
		err = nil // somebody works there
	}
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	return err
}

// add copies one entry.
func (c *copier) add(name string) error {
	info, err := c.from.Lstat(name)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	switch kind := info.Mode().Type(); {
	case kind == fs.ModeDir && (name == lostFound || stat.Dev != c.top.Sys().(*syscall.Stat_t).Dev):
		c.Skipped++
		return fs.SkipDir
	case kind == fs.ModeDir && c.without != nil && os.SameFile(info, c.without):
		return fmt.Errorf("it holds %s, which is not for a guest", name)
	case name == lostFound:
		c.Skipped++
		return nil
	case c.Files == maxFolderFiles:
		return fmt.Errorf("it holds more than %d files", maxFolderFiles)
	case kind == fs.ModeDir:
		err = c.to.Mkdir(name, 0o700)
		c.folders = append(c.folders, folderTime{name, info.ModTime()})
	case kind == fs.ModeSymlink:
		err = c.link(name)
	case kind == 0:
		err = c.file(name)
	default:
		c.Skipped++
		return nil
	}
	if err != nil {
		return err
	}
	c.Files++
	c.blocks++ // of a folder or a long link; of a file that fills no whole one
	if err := c.to.Lchown(name, int(stat.Uid), int(stat.Gid)); err != nil || info.Mode().Type() == fs.ModeSymlink {
		return err
	}
	if err := c.to.Chmod(name, info.Mode().Perm()); err != nil {
		return err
	}
	return c.to.Chtimes(name, info.ModTime(), info.ModTime())
}

func (c *copier) link(name string) error {
	target, err := c.from.Readlink(name)
	if err != nil {
		return err
	}
	return c.to.Symlink(target, name)
}

// file copies what is a file when it is opened, which need not be what was
// looked at.
func (c *copier) file(name string) (err error) {
	f, err := c.from.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fs.ErrNotExist)
	}
	to, err := c.to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	// One that would not fit is not written: this process may be allowed no
	// larger file than the image.
	n, err := io.Copy(to, io.LimitReader(f, c.most-c.Bytes))
	c.Bytes, c.blocks = c.Bytes+n, c.blocks+n/folderBlock
	if err == nil && c.Bytes == c.most {
		err = c.tooLarge()
	}
	return err
}

func (c *copier) tooLarge() error {
	return fmt.Errorf("it holds %d MiB and more: with room to write, that does not fit into %d MiB", c.Bytes/mib, c.most/mib)
}
