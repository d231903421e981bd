package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MakeSecrets makes the secrets volume at path, in place of what is there: as
// small as it can be, mode 0400, owned by uid and gid. Inside, all belongs to
// root: files with mode 0400, folders with 0500. path must lie on a tmpfs,
// since neither the volume nor what it is made from may reach a disk. For the
// same reason the calling process, which holds the values too, should have core
// dumps switched off; the tools inherit that.
//
// The file has room for every document that is allowed, so that Renew can put
// another in its place while a VM has it open; it is sparse and takes as much
// memory as the file system in it.
func MakeSecrets(ctx context.Context, path string, files []File, uid, gid int) error {
	if err := makeSecrets(ctx, path, files, uid, gid); err != nil {
		return fmt.Errorf("cannot make the secrets volume: %w", err)
	}
	return nil
}

func makeSecrets(ctx context.Context, path string, files []File, uid, gid int) (err error) {
	if err := requireMemory(filepath.Dir(path)); err != nil {
		return err
	}
	staging := path + ".files"
	if err := os.RemoveAll(staging); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	g, err := stage(staging, files)
	if err != nil {
		return err
	}
	d, err := newDraft(path)
	if err != nil {
		return err
	}
	defer d.discard(&err)
	if g.blocks*secretsBlock > secretsCapacity {
		return fmt.Errorf("the files take %d KiB, %d fit", g.blocks*secretsBlock/1024, secretsCapacity/1024)
	}
	if err := d.Truncate(secretsCapacity); err != nil {
		return err
	}
	if _, _, err := (tool{name: "mke2fs", args: secretsArgs(staging, g), image: d.File}).run(ctx); err != nil {
		return err
	}
	// mke2fs makes lost+found and a root folder that everyone can read.
	if err := debugfs(ctx, d.File, "rmdir lost+found", "sif / mode 040500"); err != nil {
		return err
	}
	if err := d.Chown(uid, gid); err != nil {
		return err
	}
	if err := d.Chmod(0o400); err != nil {
		return err
	}
	return d.commit()
}

// requireMemory makes sure that what is written below dir stays in memory.
func requireMemory(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if s.Type != unix.TMPFS_MAGIC && s.Type != unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is not on a tmpfs, and secrets must not reach a disk", dir)
	}
	return nil
}

// geometry is the size of an image that holds certain files.
type geometry struct{ blocks, inodes int64 }

const (
	secretsBlock = 1024
	// secretsCapacity has room for the largest secrets, each in folders of its
	// own with the longest names.
	secretsCapacity = 24 << 20
	inodeSize       = 256
)

// stage writes the files below dir as they shall be in the image and computes
// how large that has to be.
func stage(dir string, files []File) (geometry, error) {
	folders := map[string]int64{".": 0} // bytes of their entries
	g := geometry{
		blocks: 64, // superblock, descriptors, bitmaps, lost+found and some slack
		inodes: 16, // the reserved ones, lost+found and some slack
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return g, err
	}
	for _, f := range files {
		if !filepath.IsLocal(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "." {
			return g, fmt.Errorf("%s is no path for a secret", quotePath(f.Path))
		}
		at := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return g, err
		}
		if err := writeNew(at, f.Data); err != nil {
			return g, fmt.Errorf("%s: %w", quotePath(f.Path), err)
		}
		g.inodes++
		g.blocks += blocksFor(int64(len(f.Data)))
		for entry, known := f.Path, false; !known; entry = path.Dir(entry) {
			_, known = folders[path.Dir(entry)]
			folders[path.Dir(entry)] += int64(8 + len(path.Base(entry)) + 3)
		}
	}
	for folder, entries := range folders {
		if err := os.Chmod(filepath.Join(dir, folder), 0o500); err != nil {
			return g, err
		}
		g.inodes++
		// An entry does not cross into the next block, so a quarter of each
		// may stay empty; . and .. come on top.
		g.blocks += blocksFor(24 + entries + entries/2)
	}
	g.blocks += blocksFor(g.inodes * inodeSize)
	g.blocks += g.blocks / 64 // descriptors and bitmaps of further groups, blocks of extents
	return g, nil
}

func blocksFor(size int64) int64 { return (size + secretsBlock - 1) / secretsBlock }

func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// secretsArgs make an image that is only ever read: without journal, and with
// no more inodes than it needs.
func secretsArgs(staging string, g geometry) []string {
	return []string{
		"-q", "-F",
		"-O", "none,ext_attr,filetype,extent,sparse_super,large_file,extra_isize",
		"-b", fmt.Sprint(secretsBlock), "-I", fmt.Sprint(inodeSize), "-N", fmt.Sprint(g.inodes),
		"-m", "0", "-L", "secrets",
		"-E", "nodiscard,root_owner=0:0,no_copy_xattrs",
		"-d", staging,
		imageArg, fmt.Sprint(g.blocks),
	}
}

// debugfs runs commands that change the image. Its exit code says nothing of
// them; every failure is a line on standard error, behind the version.
func debugfs(ctx context.Context, image *os.File, commands ...string) error {
	script := strings.Join(commands, "\n") + "\n"
	_, said, err := tool{name: "debugfs", args: []string{"-w", "-f", "-", imageArg}, image: image, stdin: script}.run(ctx)
	if err != nil {
		return err
	}
	if _, failures, _ := strings.Cut(said, "\n"); failures != "" {
		return fmt.Errorf("debugfs: %s", failures)
	}
	return nil
}
